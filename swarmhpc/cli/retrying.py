"""The options that say when a job is tried again and how long it may take: of `submit` and `run` alike."""

from __future__ import annotations

from typing import Annotated

import typer

Retries = Annotated[int, typer.Option("--retries", metavar="N", help="Try a job that fails so often again.")]
RetryOn = Annotated[
    list[str] | None,
    typer.Option("--retry-on", metavar="WHAT", help="Only on these: exit codes, evicted, memory, signal, timeout."),
]
RetryMemory = Annotated[
    str, typer.Option("--retry-memory", metavar="MORE", help="Out of memory: try with more, 2x or +1GiB.")
]
RetryMemoryMax = Annotated[
    str, typer.Option("--retry-memory-max", metavar="SIZE", help="And never with more than this.")
]
Timeout = Annotated[str, typer.Option("--timeout", metavar="TIME", help="Stop a job that runs longer, such as 2h.")]
Lease = Annotated[
    str, typer.Option("--lease", metavar="TIME", help="How long a job survives without its access point.")
]
