"""The entry point. A bare `swarmhpc q` is answered without loading the command line: half of its time would be that.

Everything else, and every mistake, is the business of cli/app.py.
"""

from __future__ import annotations

import os
import sys

_QUICK = (["q"], ["q", "--all"], ["q", "-a"])


def main() -> None:
    """Exit codes: 0 done, 1 failed, 2 wrong usage."""
    arguments = sys.argv[1:]
    code = _queue(everyone=len(arguments) > 1) if arguments in _QUICK else None
    if code is not None:
        sys.exit(code)
    from swarmhpc.cli.app import main as app

    app()


def _queue(*, everyone: bool) -> int | None:
    """What cli/queue.py shows; None where there is more to say than that."""
    from swarmhpc import context as contexts
    from swarmhpc.cli import queue_table
    from swarmhpc.errors import SwarmHpcError

    try:
        context = contexts.load(os.environ.get("SWARMHPC_POOL") or None)
        from swarmhpc.adapters.condor import Pool

        lines = queue_table.look(Pool(context), context.person, everyone=everyone)
        if len(lines) == 1:
            return None
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stderr.close()  # as cli/app.py
        return 1
    except SwarmHpcError as e:
        from swarmhpc.cli import output

        output.failure(e)
        return e.exit_code
    except Exception:  # noqa: BLE001 - the whole command line meets it again and has words for it
        return None
    return 0
