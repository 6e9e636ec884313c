"""What a caller of the API gives to be submitted: a submit description (file or text), or a DAG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from swarmhpc.errors import UsageError
from swarmhpc.jobs import submit as wing
from swarmhpc.jobs.translate import Translation

if TYPE_CHECKING:
    from swarmhpc.adapters.condor import Pool
    from swarmhpc.jobs.dag import Workflow
    from swarmhpc.jobs.findings import Finding
    from swarmhpc.jobs.resources import Limits


def read(
    description: str | Path,
    *,
    limits: Limits,
    overrides: Sequence[str] = (),
    append: Sequence[str] = (),
    adapt: bool = False,
    pin: bool = False,
    allow_commands: bool = False,
    rescue: bool = True,
) -> tuple[Translation | Workflow, tuple[Finding, ...]]:
    """What would be submitted, and its findings. A string with a line break is the text of a description, any other one
    names a file. Raises DescriptionError with every mistake."""
    from swarmhpc.jobs import dag

    pins: list[Finding] = []

    def pinned(translation: Translation) -> Translation:
        if not pin:
            return translation
        from swarmhpc.adapters import registry
        from swarmhpc.jobs import images

        translation, found = images.pinned(translation, registry.resolver())
        pins.extend(found)
        return translation

    is_text = isinstance(description, str) and "\n" in description
    if not is_text and dag.is_dag(description):
        flow = dag.read(
            Path(description), cwd=Path.cwd(), limits=limits, overrides=overrides, append=append, adapt=adapt,
            allow_commands=allow_commands, resume=rescue, pin=pinned,
        )  # fmt: skip
        if flow.has_errors:
            raise wing.DescriptionError(str(description), flow.findings)
        return flow, (*flow.findings, *pins)
    translation = wing.prepare(
        Path("description") if is_text else Path(description), text=str(description) if is_text else None,
        cwd=Path.cwd(), limits=limits, overrides=overrides, append=append, adapt=adapt, allow_commands=allow_commands,
    )  # fmt: skip
    findings = translation.findings
    return pinned(translation), (*findings, *pins)


def put(
    pool: Pool,
    ready: Translation | Workflow,
    *,
    after: Sequence[str] = (),
    each: bool = False,
    sequential: bool = False,
    on: str = "success",
    rescue: bool = True,
) -> Sequence[wing.Submitted]:
    """Puts it into the queue: all of it or nothing. Raises UsageError, PoolError."""
    from swarmhpc.jobs import after as dependent
    from swarmhpc.jobs import dag

    dependent.check(after=after, each=each, sequential=sequential, on=on)
    if isinstance(ready, Translation):
        if after or sequential:
            return dependent.submit(pool, ready, after=after, each=each, sequential=sequential, on=on)
        return wing.submit(pool, ready)
    if each or sequential:
        raise UsageError(
            "--each and --sequential are for jobs; a DAG says itself what waits for what",
            hint="--after alone: the whole DAG waits",
        )
    return dag.submit(pool, Path(ready.file), resume=rescue, workflow=ready, after=after, on=on)
