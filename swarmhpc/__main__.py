"""`python -m swarmhpc`."""

from swarmhpc.cli.main import main

main()
