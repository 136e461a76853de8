"""The operator's models reach the worker and its job."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.settings import MODEL_PATHS, inherited_environment, model_paths
from modal_workers.badminton.settings import BadmintonSettings


def test_every_setting_is_inherited_and_the_files_are_opened_by_a_locked_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {f"BADMINTON_{name}".upper(): field for name, field in BadmintonSettings.model_fields.items()}
    for name in given:
        monkeypatch.setenv(name, str(tmp_path / name))
    assert {name: str(tmp_path / name) for name in given}.items() <= inherited_environment().items()
    assert {name for name, field in given.items() if "Path" in str(field.annotation)} == set(MODEL_PATHS)
    assert set(model_paths()) == {tmp_path / name for name in MODEL_PATHS}
    for name in MODEL_PATHS[1:]:
        monkeypatch.setenv(name, "")
    assert model_paths() == (tmp_path / MODEL_PATHS[0],)
