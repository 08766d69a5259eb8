"""However much there is to tell, a message is no longer than a screen, and shows only what can be shown."""

from __future__ import annotations

import pytest

from tasks.errors import ConfigurationError, DataError, HeadstartError, TooLarge
from tasks.wording import REASON, SCREEN, brief, shorten


def test_what_fits_stays_as_it_is() -> None:
    for text in ("", "x" * SCREEN, "chatière \u3000 猫 😀\n\tlayout: label", "C:\\photos"):
        assert brief(text) == text


def test_of_a_long_text_beginning_and_end_are_kept() -> None:
    told = brief(f"t.csv: {'x' * 1_900_000}. Save it as UTF-8", 300)
    assert told.startswith("t.csv: xxx") and told.endswith("xxx. Save it as UTF-8")
    assert " 1,899,725 signs more " in told and len(told) < 350


def test_many_lines_become_one() -> None:
    assert brief("\n".join("abc" for _ in range(20))).count("\n") == 19
    assert "\n" not in brief("\n".join("abc" for _ in range(200)))


def test_what_moves_a_cursor_or_is_no_character_is_written_out() -> None:
    assert brief("a\0b\x1b[31m\r\ud800é") == "a\\x00b\\x1b[31m\\r\\ud800é"
    brief("\udcff" * 5000).encode()


@pytest.mark.parametrize("kind", [HeadstartError, ConfigurationError, DataError, TooLarge])
def test_every_error_that_a_person_reads_is_brief(kind: type[HeadstartError]) -> None:
    assert str(kind("where: what. What to do")) == "where: what. What to do"
    assert len(str(kind(repr(bytes(1_900_000))))) < SCREEN + 100


def test_of_many_names_the_first_are_told() -> None:
    assert shorten("abcdef") == "a, b, c, d, e and 1 more" and shorten("abcde") == "a, b, c, d, e"
    assert shorten(map(str, range(1000)), 3) == "0, 1, 2 and 997 more"
    assert len(shorten(["x" * 2_000_000] * 3)) < 4 * REASON
