"""Reads the tables of docs/translations.md: what the document says is what the tests hold.

A cell of the columns HTCondor and Here is a value in backquotes (as HTCondor writes it in a job ad), the word
`absent`, the word `any`, or one of the phrases of `_PHRASES`, which compare the two sides.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "translations.md"
Ad = Mapping[str, str]


@dataclass(frozen=True)
class Row:
    """One row of the table of translations."""

    names: tuple[str, ...]  # none: any other
    theirs: str
    ours: str
    when: str
    why: str

    def __str__(self) -> str:
        return f"{' '.join(self.names) or 'any other'}: {self.theirs} → {self.ours} ({self.when})"


@dataclass(frozen=True)
class Side:
    """One attribute as a phrase sees it. None: the attribute is absent. `theirs` and `ours` are the whole ads."""

    was: str | None
    became: str | None
    theirs: Ad
    ours: Ad


def _terms(expression: str) -> list[str]:
    """The operands of the outermost `&&`."""
    terms, depth, start, quoted = [], 0, 0, False
    for position, character in enumerate(expression):
        if character == '"' and expression[position - 1 : position] != "\\":
            quoted = not quoted
        elif quoted:
            continue
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif depth == 0 and expression.startswith(" && ", position):
            terms.append(expression[start:position].strip())
            start = position + 4
    return [*terms, expression[start:].strip()]


_SHARED: Final = "(TARGET.FileSystemDomain == MY.FileSystemDomain)"
_EITHER: Final = re.compile(re.escape(f"({_SHARED} || ") + r"(\(TARGET\.HasFileTransfer\b.*\))\)")


def _same_requirements(side: Side) -> bool:
    """All terms are the same and in the same order, except that an image is docker's, files are always sent, and
    encryption needs no request."""
    theirs, ours = _terms(side.was or ""), _terms(side.became or "")
    if _SHARED in theirs:  # should_transfer_files = NO
        theirs.remove(_SHARED)
        ours = [t for t in ours if not t.startswith("(TARGET.HasFileTransfer")]
    theirs = [_EITHER.sub(r"\1", t).replace(" && TARGET.HasPerFileEncryption", "") for t in theirs]
    images = {"TARGET.HasContainer", "TARGET.HasDockerURL", "TARGET.HasDocker"}
    docker = ["TARGET.HasDocker"] if "DockerImage" in side.ours else []
    return [t for t in ours if t in images] == docker and [t for t in theirs if t not in images] == [
        t for t in ours if t not in images
    ]


def _same_image(side: Side) -> bool:
    written = side.theirs.get("DockerImage") or side.theirs.get("ContainerImage") or ""
    return side.became == '"' + written.strip('"').removeprefix("docker://") + '"'


def _same_file(side: Side) -> bool:
    paths = [posixpath.normpath((text or "").strip('"')) for text in (side.was, side.became)]
    return paths[0] == paths[1]


def _same_variables(side: Side) -> bool:
    """Only for values without blanks, quotes and escapes, which look the same in both syntaxes."""
    return (side.became or "").strip('"').split() == side.theirs.get("Env", "").strip('"').split(";")


_PHRASES: Final[Mapping[str, Callable[[Side], bool]]] = {
    "any": lambda _: True,
    "absent": lambda side: side.became is None,
    "the same but for HTCondor's own terms": _same_requirements,
    "the image as docker knows it": _same_image,
    "the same file": _same_file,
    "the variables of `Env`": _same_variables,
    "a size that HTCondor measured": lambda side: re.fullmatch("[0-9]+", side.became or "") is not None,
}
_CONDITIONS: Final[Mapping[str, Callable[[Ad, Ad], bool]]] = {
    "always": lambda _theirs, _ours: True,
    "in an image": lambda _theirs, ours: "DockerImage" in ours,
    "plain": lambda _theirs, ours: "DockerImage" not in ours,
}


def excuse(table: Sequence[Row], name: str, was: str | None, became: str | None, theirs: Ad, ours: Ad) -> Row | None:
    """The first row that says why `name` was `was` and became `became`."""
    for row in table:
        named = not row.names or name.lower() in [n.lower() for n in row.names]
        if named and _fits(row, Side(was, became, theirs, ours)):
            return row
    return None


def _fits(row: Row, side: Side) -> bool:
    before = row.theirs == "any" or (side.was is None if row.theirs == "absent" else side.was == _literal(row.theirs))
    phrase = _PHRASES.get(row.ours)
    after = phrase(side) if phrase else side.became == _literal(row.ours)
    return before and after and _CONDITIONS[row.when](side.theirs, side.ours)


def _literal(cell: str) -> str:
    assert len(cell) > 2 and cell[0] == cell[-1] == "`", f"{cell!r} is no phrase of tests/translations.py, and no value"
    return cell[1:-1].replace("\\|", "|")


def tables(document: Path = DOCUMENT) -> dict[str, list[list[str]]]:
    """Heading -> rows of the table under it, without its head."""
    found: dict[str, list[list[str]]] = {}
    rows: list[list[str]] = []
    for line in document.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            rows = found.setdefault(line.lstrip("# ").strip(), [])
        elif line.startswith("|"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return {heading: rows[2:] for heading, rows in found.items() if rows}


def translations(document: Path = DOCUMENT) -> list[Row]:
    """The table of translations."""
    return [
        Row(tuple(re.findall(r"`(\w+)`", names)), theirs, ours, when, why)
        for names, theirs, ours, when, why in tables(document)["Attributes that differ"]
    ]


def reasons(document: Path = DOCUMENT) -> dict[str, str]:
    """Code of a finding -> why a file that HTCondor accepts is refused for it."""
    return {code.strip("`"): why for code, why in tables(document)["Refused here, accepted by HTCondor"]}


def leniences(document: Path = DOCUMENT) -> dict[str, str]:
    """What HTCondor says (a part of it) -> why the file is accepted here."""
    return {said.strip("`"): why for said, why in tables(document)["Accepted here, refused by HTCondor"]}
