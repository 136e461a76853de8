"""What LeRobot's discovery requires of the plugin; with LeRobot itself: tests/system/test_lerobot_record.py."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tomllib
from email import message_from_string
from pathlib import Path

import pytest
from saccade_robot import RobotClientError, read_params

from tests.harness.servers.embedded import ROOT

PLUGIN = ROOT / "clients/lerobot/plugin"
PACKAGE = "lerobot_robot_saccade"


def test_the_distributions_name_is_the_modules_and_begins_as_lerobot_looks_for() -> None:
    """LeRobot compares the name as it stands in the metadata, and imports that very name."""
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())
    assert project["project"]["name"] == PACKAGE
    assert PACKAGE.startswith("lerobot_robot_")
    assert project["tool"]["setuptools"]["packages"] == [PACKAGE]
    assert (PLUGIN / PACKAGE / "__init__.py").is_file()
    assert project["project"]["dependencies"] == ["saccade-robot"]


def test_parameters_of_the_session_come_from_a_file(tmp_path: Path) -> None:
    """Read before the robot is made: a name that is wrong is told at the start, not when the arm moves."""
    path = tmp_path / "calibration.json"
    path.write_text('{"seed": 3}')
    assert read_params(path) == {"seed": 3}
    for text, code in (("[1]", "params_invalid"), ("{", "params_invalid"), (None, "no_such_file")):
        path.unlink()
        if text is not None:
            path.write_text(text)
        with pytest.raises(RobotClientError) as refused:
            read_params(path)
        assert (refused.value.code, "saccade calibrate" in refused.value.hint) == (code, True)
        path.touch()


def test_what_is_built_keeps_the_name(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    shutil.copytree(PLUGIN, tmp_path / "plugin")
    code = "import sys; from setuptools.build_meta import prepare_metadata_for_build_wheel as p; print(p(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(tmp_path)]
    subprocess.run(command, check=True, cwd=tmp_path / "plugin", capture_output=True, timeout=300)
    (metadata,) = tmp_path.glob("*.dist-info/METADATA")
    assert message_from_string(metadata.read_text())["Name"] == PACKAGE


def test_no_field_of_a_config_is_another_robots_config() -> None:
    """Such a field makes draccus expand the registry for ever: every command line of LeRobot would hang."""
    tree = ast.parse((PLUGIN / PACKAGE / "publishing.py").read_text())
    (config,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "PublishConfig"]
    fields = {
        ast.unparse(node.target): ast.unparse(node.annotation)
        for node in config.body
        if isinstance(node, ast.AnnAssign)
    }
    assert {"url", "session", "workload", "key_env"} <= set(fields)
    assert set(fields.values()) <= {"str", "str | None", "float", "bool"}
    made = [
        node
        for node in ast.walk(ast.parse((PLUGIN / PACKAGE / "streamed.py").read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "dataclasses.make_dataclass"
    ]
    (call,) = made
    added = call.args[1]
    assert isinstance(added, ast.List)
    (field,) = added.elts
    assert ast.unparse(field).startswith("('publish', PublishConfig,")
