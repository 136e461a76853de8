"""Every released version has golden windows, and the present one too."""

from __future__ import annotations

import tomllib

from tests.golden.windows import FOLDER, golden_windows
from tests.rules.tree import ROOT


def test_every_version_has_golden_windows() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    versions = {golden.version for golden in golden_windows()}
    assert version in versions, f"record them: python -m tests.golden.record {version}"
    assert versions == {folder.name for folder in FOLDER.iterdir() if folder.is_dir() and folder.name[0].isdigit()}


def test_golden_windows_are_small_and_tell_what_they_were_recorded_with() -> None:
    for golden in golden_windows():
        assert golden.events.stat().st_size < 200_000, golden
        assert golden.recorded()["settings"], golden
        assert all(one.get("reason") for one in golden.recorded()["different"]), "a difference has its reason"
