"""swarmhpc: a room of Linux machines as one batch-computing pool (HTCondor in a Docker Swarm)."""

__version__ = "0.1.0"
