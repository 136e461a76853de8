"""Output for people: what others wrote does not command the terminal."""

from __future__ import annotations

import pytest

from cli.output import print_line, print_note, print_table


def test_control_characters_of_a_text_are_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "a\x1b]0;title\x07\x9b2Jb\rc\td é😀"
    print_line(hostile)
    print_note(hostile)
    print_table(["text"], [[hostile]])
    found = capsys.readouterr()
    shown = "a\ufffd]0;title\ufffd\ufffd2Jb\ufffdc\td é😀"
    assert found.out == f"{shown}\ntext\n{shown}\n"
    assert found.err == f"{shown}\n"
