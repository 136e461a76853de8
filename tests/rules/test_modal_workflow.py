"""The pipeline that deploys to Modal does what its words say, prints no secret, and runs nothing that was typed in."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import AliasChoices

from kit.settings import S3Settings, inherited_environment
from tests.rules.tree import ROOT

TEXT = (ROOT / ".github" / "workflows" / "modal-deploy.yml").read_text()
WORKFLOW = yaml.safe_load(TEXT)
STEPS = {step.get("name", step.get("uses")): step for step in WORKFLOW["jobs"]["deploy"]["steps"]}


def _run(step: dict[str, Any], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a step's script as the pipeline does, with a ``saccade`` that writes down its arguments."""
    saccade = folder / "saccade"
    saccade.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {folder}/arguments\n')
    saccade.chmod(0o755)
    environment = inherited_environment(("PATH",)) | {"GITHUB_OUTPUT": str(folder / "output")} | variables
    environment["PATH"] = f"{folder}:{environment['PATH']}"
    (folder / "output").touch()
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )


def test_scripts_hold_no_value_that_came_from_outside() -> None:
    scripts = [step["run"] for step in STEPS.values() if "run" in step]
    assert scripts
    assert [script for script in scripts if "${{" in script] == []


def test_it_may_only_read_and_one_deploy_waits_for_the_other() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert WORKFLOW["concurrency"]["cancel-in-progress"] is False


def test_it_runs_for_whatever_a_worker_is_made_of() -> None:
    # YAML reads the word `on` as true.
    triggers = WORKFLOW[True]
    assert triggers["push"]["branches"] == ["main"]
    for source in ("contracts", "modal_workers", "kit"):
        assert f"{source}/**" in triggers["push"]["paths"]
    assert {"constraints.txt", "pyproject.toml"} <= set(triggers["push"]["paths"])
    assert triggers["workflow_dispatch"]["inputs"]["environment"]["options"] == ["prod", "dev"]


def test_the_bucket_s_secrets_are_named_as_its_settings_are() -> None:
    names = set()
    for field in S3Settings.model_fields.values():
        if isinstance(field.validation_alias, AliasChoices):
            names |= {str(choice) for choice in field.validation_alias.choices}
    step = STEPS["Store the bucket's keys"]
    assert step["run"] == "saccade modal secret"
    assert step["env"] == {name: f"${{{{ secrets.{name} }}}}" for name in names}


def test_secrets_go_to_the_steps_that_need_them_only() -> None:
    named = set(re.findall(r"secrets\.(\w+)", TEXT))
    assert {"MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"} <= named
    elsewhere = [name for name, step in STEPS.items() if "secrets." in str(step) and "bucket" not in name]
    assert elsewhere == []


@pytest.mark.parametrize(
    ("token", "secret", "goes_on"), [("ak", "as", True), ("ak", "", False), ("", "as", False), ("", "", False)]
)
def test_a_repository_without_a_token_deploys_nothing_and_fails_nothing(
    tmp_path: Path, token: str, secret: str, goes_on: bool
) -> None:
    done = _run(STEPS["Check for a token"], tmp_path, MODAL_TOKEN_ID=token, MODAL_TOKEN_SECRET=secret)
    assert done.returncode == 0, done.stderr
    assert ((tmp_path / "output").read_text() == "there=yes\n") is goes_on
    assert ("Nothing is deployed" in done.stdout) is not goes_on
    for name, step in STEPS.items():
        assert name == "Check for a token" or step["if"] == "steps.token.outputs.there", name


@pytest.mark.parametrize(
    ("stage", "workers", "expected"),
    [
        ("prod", "", ["--env", "prod"]),
        ("dev", "lap_compare nerf", ["--env", "dev", "--worker", "lap_compare", "--worker", "nerf"]),
        ("prod", "a;touch${IFS}bad $(id)", ["--env", "prod", "--worker", "a;touch${IFS}bad", "--worker", "$(id)"]),
        ("prod", "*", ["--env", "prod", "--worker", "*"]),
    ],
)
def test_it_deploys_by_the_one_command(tmp_path: Path, stage: str, workers: str, expected: list[str]) -> None:
    done = _run(STEPS["Deploy"], tmp_path, STAGE=stage, WORKERS=workers)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "arguments").read_text().split("\n")[:-1] == ["modal", "deploy", *expected]
    assert not (tmp_path / "bad").exists()


def test_a_push_deploys_for_production() -> None:
    assert STEPS["Deploy"]["env"]["STAGE"] == "${{ inputs.environment || 'prod' }}"
