#!/usr/bin/env python3
"""Writes docs/corpus-report.md: what becomes of each file of a corpus of real submit descriptions.

HTCondor itself is the judge (see tests/oracle.py). The corpus is read where it lies; nothing of it is copied here.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import common
from swarmhpc.adapters.docker import Engine
from swarmhpc.cluster import images
from swarmhpc.errors import EngineError
from swarmhpc.state import IMAGE_REPOSITORY
from tests import oracle, translations
from tests.oracle import GOOD, Verdict

_REPORT = Path(__file__).resolve().parents[1] / "docs" / "corpus-report.md"


def image() -> str:
    """The newest pool image of this engine. Raises EngineError where there is none."""
    made = [t for i in images.listing(Engine()) for t in i.tags if t.startswith(IMAGE_REPOSITORY + ":")]
    if not made:
        raise EngineError("this engine has no image of a pool", hint="swarmhpc images build")
    return made[0]


def judged(folder: Path) -> list[Verdict]:
    """A verdict for each file of `folder`."""
    cases = oracle.corpus_cases(folder)
    common.say(f"asking HTCondor about {len(cases)} files")
    with tempfile.TemporaryDirectory() as scratch:
        judge = oracle.Oracle(image(), Path(scratch))
        try:
            return oracle.judge(
                judge, cases, translations.translations(), translations.reasons(), translations.leniences()
            )
        finally:
            judge.stop()


def report(verdicts: Sequence[Verdict]) -> str:
    """The document."""
    total = len(verdicts)
    outcomes = Counter(v.outcome for v in verdicts)
    jobs = sum(v.jobs for v in verdicts if v.outcome == "equal")
    lines = [
        "# What becomes of real submit descriptions",
        "",
        f"Made by `benchmarks/corpus.py` from {total} files that people wrote for other pools. Each was given to",
        "`condor_submit -dry-run` (25.14) as it is and as swarmhpc's translation of it, and the job ads were compared",
        "job by job, attribute by attribute; [translations](translations.md) lists what may differ, and why.",
        "",
        "| Files | Verdict |",
        "|---:|---|",
        *(f"| {outcomes[outcome]} | {meaning} |" for outcome, meaning in GOOD.items()),
        *(f"| {n} | **{outcome}: a bug of ours** |" for outcome, n in outcomes.items() if outcome not in GOOD),
        "",
        f"The {outcomes['equal']} translated files describe {jobs} jobs, all of which were compared.",
        "",
        "## Why files are refused that HTCondor accepts",
        "",
        "One file can have several reasons.",
        "",
        "| Files | Code | Why |",
        "|---:|---|---|",
    ]
    reasons = translations.reasons()
    codes = Counter(c for v in verdicts if v.outcome in ("refused", "would run a command") for c in v.codes)
    lines += [f"| {n} | `{c}` | {reasons.get(c, 'nothing in a file may run')} |" for c, n in codes.most_common()]
    lines += ["", "## Which translations were met", "", "| Files | Attribute | Becomes | Why |", "|---:|---|---|---|"]
    used = Counter(row for v in verdicts for row in v.excused)
    for row in translations.translations():
        if used[row]:
            names = ", ".join(f"`{name}`" for name in row.names) or "any other"
            lines.append(f"| {used[row]} | {names} | {row.ours} | {row.why} |")
    lines += ["", "## Every file", "", "| File | Jobs | Verdict | Codes |", "|---|---:|---|---|"]
    lines += [f"| {v.name} | {v.jobs} | {v.outcome} | {' '.join(f'`{c}`' for c in v.codes)} |" for v in verdicts]
    return "\n".join(lines) + "\n"


def measure(folder: Path) -> common.Report:
    """One row a verdict; writes the document. Raises EngineError."""
    verdicts = judged(folder)
    _REPORT.write_text(report(verdicts), encoding="utf-8")
    outcomes = Counter(v.outcome for v in verdicts)
    rows = [{"verdict": outcome, "files": n} for outcome, n in outcomes.most_common()]
    return common.Report("corpus", rows, {"written": str(_REPORT)})


if __name__ == "__main__":
    parser = common.arguments(__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("/work/shared/corpus"), help="with *.sub files")
    options = parser.parse_args()
    common.main(lambda: measure(options.folder), as_json=options.json)
