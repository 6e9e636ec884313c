"""Logical lines of a submit description, and the places of their characters."""

import pytest

from swarmhpc.jobs.findings import Findings, Place
from swarmhpc.jobs.lines import Lines


def lines_of(text: str) -> tuple[Lines, Findings]:
    findings = Findings()
    return Lines(text, "job.sub", findings), findings


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a\nb", ["a", "b"]),
        ("a\r\n \t b \r\n\n", ["a", "b"]),
        ("# c\na\n  # d\n", ["a"]),
        ("a \\\n   b\\\nc\nd", ["a bc", "d"]),
        ("a \\\n # gone \\\n b", ["a b"]),
        ("# not continued \\\na", ["a"]),
        ("a \\\n\nb", ["a ", "b"]),
        ("a \\", ["a "]),
        ("\\\n\\\n a", ["a"]),
        ("", []),
    ],
)
def test_lines_are_joined_at_backslashes_and_comments_left_out(text: str, wanted: list[str]) -> None:
    assert [line.text for line in lines_of(text)[0]] == wanted


def test_every_character_of_a_continued_line_has_its_place() -> None:
    line = next(lines_of("\n  x = a \\\n     bc \\\n d")[0])
    assert line.text == "x = a bc d"
    value = line.value_from(3)
    assert value.text == "a bc d"
    assert [value.at(i) for i in (0, 2, 3, 5)] == [
        Place("job.sub", 2, 7),
        Place("job.sub", 3, 6),
        Place("job.sub", 3, 7),
        Place("job.sub", 4, 2),
    ]
    assert line.place == Place("job.sub", 2, 3)


def test_a_line_begins_where_its_first_character_stands() -> None:
    assert next(lines_of(" \\\n\\\n   a")[0]).place == Place("job.sub", 3, 4)


def test_a_line_without_its_colon_keeps_its_places() -> None:
    line = next(lines_of(" :  a \\\n b")[0]).after(1)
    assert (line.text, line.place) == ("a b", Place("job.sub", 1, 5))
    assert line.value_from(2).place == Place("job.sub", 2, 2)


def test_following_lines_are_taken_from_the_same_text() -> None:
    lines, _ = lines_of("queue (\n  a \\\n  b\n\n# c\n)\nlast")
    assert next(lines).text == "queue ("
    rows = lines.following()
    taken = [next(rows) for _ in range(4)]
    assert [(text, place.line, place.column) for text, place in taken] == [
        ("a b", 2, 3),
        ("", 4, 1),
        ("# c", 5, 1),
        (")", 6, 1),
    ]
    assert next(lines).text == "last"
    assert list(rows) == []


def test_a_comment_that_ends_a_continued_line_is_a_warning_at_its_place() -> None:
    lines, findings = lines_of("a \\\n  # b\nc")
    assert [line.text for line in lines] == ["a ", "c"]
    assert [(f.code, f.place) for f in findings.sorted()] == [("comment-in-continuation", Place("job.sub", 2, 3))]
