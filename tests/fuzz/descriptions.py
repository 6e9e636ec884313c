"""Coverage-guided fuzzing of parser and translator with Atheris (libFuzzer); runs until stopped or for -max_total_time.

    pip install atheris
    python tests/fuzz/descriptions.py [SEEDS…] -max_total_time=600 -timeout=20

Any bytes must give findings: never an exception, never a file, process or socket opened, never more than `SLOW_S`.
SEEDS are folders of submit descriptions; libFuzzer writes what it discovers into the first. An input that fails is kept
as crash-… in the current folder; `python tests/fuzz/descriptions.py crash-…` runs it again.
"""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path, PurePosixPath

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["swarmhpc.jobs"]):
    from swarmhpc.jobs.description import parse
    from swarmhpc.jobs.resources import ClassSize, Limits
    from swarmhpc.jobs.translate import SubmitSide, translate

SLOW_S = 5.0
"""CPU seconds for one input of at most 4 KiB (libFuzzer's own limit): thousands of times what a file takes."""
LIMITS = Limits(classes=(ClassSize("executors", 4, 4096, 10**6),))
SIDE = SubmitSide(PurePosixPath("/w"), PurePosixPath("/home/me"), lambda path: "missing" not in str(path))
FORBIDDEN = ("open", "os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "socket.connect")
watching = False


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if watching and event in FORBIDDEN:
        raise RuntimeError(f"the description made swarmhpc do: {event} {arguments!r:.200}")


def one(data: bytes) -> None:
    """One input: read, translated, the first jobs' rows looked at."""
    global watching
    text = data.decode("utf-8", errors="surrogateescape")
    started, watching = time.process_time(), True
    try:
        description = parse(text, file="fuzz.sub")
        translation = translate(description, limits=LIMITS, side=SIDE)
        for cluster in translation.clusters:
            for row, _files in itertools.islice(cluster.rows(), 20):
                assert len(row) == len(cluster.varying)
                assert not any("\n" in value for value in row)
        assert translation.clusters or any(f.severity == "error" for f in translation.findings)
        for finding in translation.findings:
            assert finding.place.line >= 1 and finding.place.column >= 1 and finding.message
    finally:
        watching = False
    assert time.process_time() - started < SLOW_S


if __name__ == "__main__":
    one(b"executable = /bin/true\nqueue\n")  # what is imported late is imported before the watch
    sys.addaudithook(_audit)
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
