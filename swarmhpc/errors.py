"""One family of errors. Each message names the thing, what was seen and what was wanted; the hint is the next
command to type.

Adapters translate foreign exceptions into these, ``from`` the original. The command line prints message and hint
and exits with `exit_code`; a traceback appears only with ``--debug``.
"""

from __future__ import annotations


class SwarmHpcError(Exception):
    """Anything swarmhpc can explain. `hint` is what to type or change next (may be empty)."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SwarmHpcError):
    """What was asked for makes no sense as asked: flags, names, a cluster file, a submit description."""

    exit_code = 2


class CommandError(SwarmHpcError):
    """A program that we ran failed; the message carries what it printed."""

    def __init__(self, message: str, *, hint: str = "", returncode: int = -1, output: str = "") -> None:
        super().__init__(message, hint=hint)
        self.returncode = returncode
        self.output = output


class EngineError(SwarmHpcError):
    """The Docker engine refused or failed."""


class EngineUnreachableError(EngineError):
    """Nothing answers on the engine's socket."""


class SwarmOwnershipError(EngineError):
    """The engine belongs to a Swarm that swarmhpc did not make."""


class MachineError(SwarmHpcError):
    """A lab machine can't be reached, or can't be used as it is."""


class NoPoolError(SwarmHpcError):
    """There is no pool here, or no context that leads to one."""


class PoolError(SwarmHpcError):
    """HTCondor refused or failed."""


class PoolUnreachableError(PoolError):
    """A daemon of the pool does not answer at its address."""


class AuthenticationError(PoolError):
    """The pool answered but did not accept the token, or the token does not allow this."""


class WaitTimeoutError(SwarmHpcError):
    """A condition that was waited for did not come true in time."""


class JobFailedError(SwarmHpcError):
    """Jobs ended, were held or vanished in a way the caller asked to be told about."""
