"""swarmhpc: a room of Linux machines as one batch-computing pool (HTCondor in a Docker Swarm)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swarmhpc.pool import Pool, Submission

__version__ = "0.1.0"
__all__ = ["Pool", "Submission", "__version__"]


def __getattr__(name: str) -> Any:
    """`Pool` and `Submission`, loaded when they are first asked for."""
    if name in ("Pool", "Submission"):
        from swarmhpc import pool

        return getattr(pool, name)
    raise AttributeError(f"module 'swarmhpc' has no attribute {name!r}")
