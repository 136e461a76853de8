"""The folder that a backup is written into: of a backup that was killed, of one that runs, and of somebody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.backups.backup_part import open_part
from cli.failure import Failure


def test_what_a_killed_backup_left_is_replaced(tmp_path: Path) -> None:
    folder, left = tmp_path / "monday", tmp_path / "monday.part"
    (left / "streams").mkdir(parents=True)
    (left / "streams" / "EVENTS.s2").write_text("half")
    (left / "objects.ndjson").touch()
    (left / "lock").touch()
    with open_part(folder) as part:
        (part / "backup.json").touch()
    assert [path.name for path in folder.iterdir()] == ["backup.json"]
    assert not left.exists()


def test_a_backup_that_runs_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "monday"
    with open_part(folder) as part:
        (part / "objects.ndjson").touch()
        with pytest.raises(Failure, match="another backup") as refused, open_part(folder):
            pass
        assert refused.value.code == "file_exists"
        assert (part / "objects.ndjson").exists()
    assert [path.name for path in folder.iterdir()] == ["objects.ndjson"]


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "monday.part").mkdir()
    (tmp_path / "monday.part" / "thesis.tex").write_text("mine")
    with pytest.raises(Failure, match="no backup's") as refused, open_part(tmp_path / "monday"):
        pass
    assert refused.value.code == "file_exists"
    assert (tmp_path / "monday.part" / "thesis.tex").read_text() == "mine"


def test_a_backup_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), open_part(tmp_path / "monday"):
        raise OSError("full")
    assert not list(tmp_path.iterdir())
