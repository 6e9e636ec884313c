"""Sizes and durations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmhpc.units import format_duration_s, format_mib, mib, parse_duration_s, parse_size_bytes

MIB = 1024**2
GIB = 1024**3


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("512MiB", 512 * MIB),
        ("1GiB", GIB),
        ("1 G", GIB),
        ("100M", 100 * MIB),
        ("1.5GB", 1536 * MIB),
        ("2g", 2 * GIB),
        ("  3 tib ", 3 * 1024 * GIB),
        ("1K", 1024),
        ("0.0001K", 1),  # part of a byte is rounded up
        ("0.3K", 308),
        ("0", 0),
    ],
)
def test_a_size_is_read_with_powers_of_1024(text: str, size_bytes: int) -> None:
    assert parse_size_bytes(text, plain_unit_bytes=MIB) == size_bytes


@pytest.mark.parametrize("plain", [128, "128", " 128 ", "128.0"])
def test_a_plain_number_is_counted_in_the_unit_of_the_caller(plain: str | int) -> None:
    assert parse_size_bytes(plain, plain_unit_bytes=MIB) == 128 * MIB
    assert parse_size_bytes(plain, plain_unit_bytes=1024) == 128 * 1024


@pytest.mark.parametrize(
    "text",
    [
        "",
        "M",
        "4 gigs",
        "-1G",
        -1,
        "1,5G",
        "1.G",
        ".5G",
        "1e3",
        "1GG",
        "G1",
        "1 2G",
        "1iB",
        "1P",
        "٤G",
        "9" * 5000,
        True,
        None,
        1.5,
    ],
)
def test_a_wrong_size_is_refused_with_what_was_seen_and_wanted(text: object) -> None:
    with pytest.raises(ValueError, match="wanted a size such as") as caught:
        parse_size_bytes(text, plain_unit_bytes=1)  # type: ignore[arg-type]
    assert str(caught.value).endswith(f"saw {text!r}")


@pytest.mark.parametrize(
    ("size_bytes", "size_mib"), [(0, 0), (1, 1), (MIB, 1), (MIB + 1, 2), (10**15 * MIB + 1, 10**15 + 1)]
)
def test_mib_rounds_up(size_bytes: int, size_mib: int) -> None:
    assert mib(size_bytes) == size_mib


@pytest.mark.parametrize(
    ("size_mib", "text"),
    [
        (0, "0 MiB"),
        (512, "512 MiB"),
        (1023, "1023 MiB"),
        (1024, "1 GiB"),
        (1025, "1025 MiB"),
        (1536, "1.5 GiB"),
        (4096, "4 GiB"),
    ],
)
def test_a_size_is_shown_in_the_unit_that_says_it_exactly(size_mib: int, text: str) -> None:
    assert format_mib(size_mib) == text


@given(st.integers(0, 2**40))
def test_a_size_that_was_shown_reads_back_the_same(size_mib: int) -> None:
    assert parse_size_bytes(format_mib(size_mib), plain_unit_bytes=1) == size_mib * MIB


@given(st.integers(0, 10**12), st.sampled_from(["K", "M", "G", "T"]), st.sampled_from(["", " "]))
def test_the_spellings_of_a_unit_mean_the_same(number: int, letter: str, space: str) -> None:
    spellings = [letter, letter.lower(), letter + "B", letter + "iB", letter.lower() + "b"]
    assert len({parse_size_bytes(f"{number}{space}{unit}", plain_unit_bytes=7) for unit in spellings}) == 1


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_a_value_error(text: str) -> None:
    try:
        assert parse_size_bytes(text, plain_unit_bytes=1) >= 0
    except ValueError as error:
        assert repr(text) in str(error)


@pytest.mark.parametrize(
    ("text", "duration_s"),
    [
        ("90s", 90),
        ("10m", 600),
        ("2h", 7200),
        ("1d", 86400),
        (45, 45),
        ("45", 45),
        ("1h30m", 5400),
        ("1d 2 h 3m4s", 93784),
        (0, 0),
        ("0s", 0),
    ],
)
def test_a_duration_is_read_in_seconds(text: str | int, duration_s: int) -> None:
    assert parse_duration_s(text) == duration_s


@pytest.mark.parametrize(
    "text", ["", " ", "s", "-1s", -1, "10 min", "30m1h", "1h1h", "1.5h", "1w", "1H", "٣s", "9" * 5000, False, None, 1.5]
)
def test_a_wrong_duration_is_refused_with_what_was_seen_and_wanted(text: object) -> None:
    with pytest.raises(ValueError, match="wanted a duration such as") as caught:
        parse_duration_s(text)  # type: ignore[arg-type]
    assert str(caught.value).endswith(f"saw {text!r}")


@pytest.mark.parametrize(
    ("duration_s", "text"), [(0, "0s"), (59, "59s"), (90, "1m30s"), (3600, "1h"), (86400, "1d"), (90061, "1d1h1m1s")]
)
def test_a_duration_is_shown_in_its_units(duration_s: int, text: str) -> None:
    assert format_duration_s(duration_s) == text


@given(st.integers(0, 10**12))
def test_a_duration_that_was_shown_reads_back_the_same(duration_s: int) -> None:
    assert parse_duration_s(format_duration_s(duration_s)) == duration_s


@pytest.mark.parametrize("show", [mib, format_mib, format_duration_s])
def test_nothing_negative_is_shown(show: object) -> None:
    with pytest.raises(ValueError, match="saw -1"):
        show(-1)  # type: ignore[operator]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", ["1" + " " * 500_000 + "x", " " * 500_000 + "x", "1 " * 250_000])
def test_long_wrong_text_is_refused_at_once(text: str) -> None:
    with pytest.raises(ValueError, match="wanted a size"):
        parse_size_bytes(text, plain_unit_bytes=1)
    with pytest.raises(ValueError, match="wanted a duration"):
        parse_duration_s(text)
