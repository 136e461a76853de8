"""The version of the code: the same for the same sources, another one for others."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit import source_version as module
from kit.source_version import source_version


def test_a_version_changes_with_sources_and_with_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROOT", tmp_path)
    versioned = source_version.__wrapped__
    folder = tmp_path / "kit" / "bus"
    folder.mkdir(parents=True)
    folder.joinpath("tail.py").write_text("a = 1\n")
    first = versioned(("kit",))
    assert len(first) == 12
    folder.joinpath("tail.pyc").write_text("compiled")
    tmp_path.joinpath("notes.py").write_text("of no package")
    assert versioned(("kit",)) == first
    folder.joinpath("tail.py").write_text("a = 2\n")
    assert versioned(("kit",)) != first
    tmp_path.joinpath("constraints.txt").write_text("a==1\n")
    with_file = versioned(("kit",), "constraints.txt")
    tmp_path.joinpath("constraints.txt").write_text("a==2\n")
    assert versioned(("kit",), "constraints.txt") != with_file
