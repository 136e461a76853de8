"""Detection of workers that were killed for memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.process_tree import oom_kill_count, ran_out_of_memory


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("low 0\nhigh 0\nmax 41\noom 2\noom_kill 3\noom_group_kill 0\n", 3),
        ("low 0\n", 0),
        ("", 0),
        ("oom_kill many\n", 0),
    ],
)
def test_the_oom_kill_count_is_read(tmp_path: Path, text: str, count: int) -> None:
    (tmp_path / "memory.events").write_text(text)
    assert oom_kill_count(tmp_path / "memory.events") == count


def test_without_counters_the_oom_kill_count_is_zero(tmp_path: Path) -> None:
    assert oom_kill_count(tmp_path / "memory.events") == 0


@pytest.mark.parametrize(
    ("code", "says", "expected"),
    [
        (134, "terminate called after throwing an instance of 'std::bad_alloc'", True),
        (137, "OSError: [Errno 12] Cannot allocate memory", True),
        (137, "working", False),
        (1, "MemoryError", False),
        (None, "MemoryError", False),
    ],
)
def test_an_allocation_error_at_the_end_of_the_log_is_found(
    tmp_path: Path, code: int | None, says: str, expected: bool
) -> None:
    (tmp_path / "worker.log").write_text(f"started\n{says}\n")
    assert ran_out_of_memory(code, tmp_path / "worker.log") is expected
