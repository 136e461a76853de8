"""Logs are cut when they are large, and a disk without room for the kept part does not end the housekeeping."""

from __future__ import annotations

from pathlib import Path

from cli.embedded.processes import LOG_BYTES, rotate_log


def test_a_log_whose_kept_part_cannot_be_written_stays_for_later(tmp_path: Path) -> None:
    log = tmp_path / "nats.log"
    with log.open("wb") as file:
        file.truncate(LOG_BYTES)
    (tmp_path / "nats.log.1").mkdir()
    rotate_log(log)
    assert log.stat().st_size == LOG_BYTES
    (tmp_path / "nats.log.1").rmdir()
    rotate_log(log)
    assert log.stat().st_size == 0
    assert (tmp_path / "nats.log.1").stat().st_size == LOG_BYTES // 4
