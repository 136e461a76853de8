"""The pipeline that deploys the Worker keeps its order, prints no secret, and runs nothing that came from outside."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from kit.settings import inherited_environment
from tests.rules.tree import ROOT

TEXT = (ROOT / ".github" / "workflows" / "cloudflare-deploy.yml").read_text()
WORKFLOW = yaml.safe_load(TEXT)
STEPS = {step.get("name", step.get("uses")): step for step in WORKFLOW["jobs"]["deploy"]["steps"]}
TOKEN = {"CLOUDFLARE_API_TOKEN": "t", "CLOUDFLARE_ACCOUNT_ID": "a", "GATEWAY_URL": "https://saccade.example.com"}


def _run(step: dict[str, Any], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a step's script as the pipeline does, with programs that write down their arguments and their input."""
    for name in ("npx", "saccade", "pip"):
        program = folder / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> {folder}/calls\n[ -t 0 ] || cat >> {folder}/input\n')
        program.chmod(0o755)
    environment = inherited_environment(("PATH",)) | {"GITHUB_OUTPUT": str(folder / "output")} | variables
    environment["PATH"] = f"{folder}:{environment['PATH']}"
    for name in ("calls", "input", "output"):
        (folder / name).touch()
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=60,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_the_order_is_modal_then_secrets_then_worker() -> None:
    names = list(STEPS)
    order = ["Check for a token", "Deploy the worker to Modal", "Put the secrets", "Deploy the Worker"]
    assert [name for name in names if name in order] == order


def test_scripts_hold_no_value_that_came_from_outside() -> None:
    assert [step["run"] for step in STEPS.values() if "${{" in step.get("run", "")] == []
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert WORKFLOW["concurrency"]["cancel-in-progress"] is False


@pytest.mark.parametrize("missing", [None, *TOKEN])
def test_a_repository_without_an_account_deploys_nothing_and_fails_nothing(tmp_path: Path, missing: str | None) -> None:
    given = TOKEN | ({missing: ""} if missing else {})
    done = _run(STEPS["Check for a token"], tmp_path, **given, MODAL_TOKEN_ID="", MODAL_TOKEN_SECRET="")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "output").read_text() == ("" if missing else "there=yes\n")
    assert ("Nothing is deployed" in done.stdout) is (missing is not None)
    for name, step in STEPS.items():
        assert name == "Check for a token" or step["if"].startswith("steps.token.outputs."), name


def test_modal_is_left_out_without_its_token(tmp_path: Path) -> None:
    _run(STEPS["Check for a token"], tmp_path, **TOKEN, MODAL_TOKEN_ID="ak", MODAL_TOKEN_SECRET="as")
    assert (tmp_path / "output").read_text() == "there=yes\nmodal=yes\n"
    assert STEPS["Deploy the worker to Modal"]["if"] == "steps.token.outputs.modal"
    done = _run(STEPS["Deploy the worker to Modal"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "calls").read_text().splitlines()[1] == "saccade modal deploy --env prod --worker vision_stream"


def test_secrets_go_to_standard_input_and_empty_ones_nowhere(tmp_path: Path) -> None:
    step = STEPS["Put the secrets"]
    assert set(step["env"]) == {
        "CLOUDFLARE_API_TOKEN", "CLOUDFLARE_ACCOUNT_ID", "MAGIC_WORD", "SACCADE_API_KEY", "POKE_API_KEY",
    }  # fmt: skip
    done = _run(step, tmp_path, **TOKEN, MAGIC_WORD="canary;$(id)", SACCADE_API_KEY="canary-two", POKE_API_KEY="")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "calls").read_text().splitlines() == [
        "npx --no-install wrangler secret put MAGIC_WORD",
        "npx --no-install wrangler secret put SACCADE_API_KEY",
    ]
    assert (tmp_path / "input").read_text() == "canary;$(id)canary-two"
    assert "canary" not in done.stdout + done.stderr


def test_the_worker_reads_what_the_pipeline_sets(tmp_path: Path) -> None:
    worker = (ROOT / "deploy" / "cloudflare" / "worker.js").read_text()
    names = {name for name in STEPS["Put the secrets"]["env"] if not name.startswith("CLOUDFLARE")} | {"GATEWAY_URL"}
    assert set(re.findall(r"env\.([A-Z_]+)", worker)) == names
    done = _run(STEPS["Deploy the Worker"], tmp_path, **TOKEN)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "calls").read_text() == (
        "npx --no-install wrangler deploy --var GATEWAY_URL:https://saccade.example.com\n"
    )
