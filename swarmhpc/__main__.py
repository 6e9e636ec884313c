"""`python -m swarmhpc`."""

from swarmhpc.cli.app import main

main()
