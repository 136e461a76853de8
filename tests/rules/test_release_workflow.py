"""The pipeline that publishes a release: one version, few rights, no tokens, every image of compose."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from deploy.release import DISTRIBUTIONS, NPM, ReleaseError, check, one_version, versions
from tests.rules.tree import ROOT, files

TEXT = (ROOT / ".github/workflows/release.yml").read_text()
WORKFLOW = yaml.safe_load(TEXT)
JOBS = WORKFLOW["jobs"]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def test_all_packages_are_built_and_have_one_version() -> None:
    projects = {path.rpartition("/")[0] or "." for path in files() if path.endswith("pyproject.toml")}
    assert projects == DISTRIBUTIONS.keys()
    assert set(versions()) == {*DISTRIBUTIONS, NPM}
    version = one_version(None)
    assert one_version(f"v{version}") == version
    with pytest.raises(ReleaseError, match=r"the tag is v0\.0\.9"):
        one_version("v0.0.9")


def test_a_package_that_was_not_built_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="was not built"):
        check(tmp_path)


def test_every_image_of_compose_is_published_with_sbom_and_provenance() -> None:
    built = {path.rpartition("/")[2] for path in (found["build"]["dockerfile"] for found in _built().values())}
    matrix = JOBS["images"]["strategy"]["matrix"]["service"]
    assert {f"{service}.Dockerfile" for service in matrix} == built
    (step,) = [step for step in JOBS["images"]["steps"] if "build-push-action" in step.get("uses", "")]
    assert (step["with"]["sbom"], step["with"]["provenance"]) == (True, "mode=max")
    assert {f"saccade-{service.replace('_', '-')}" for service in matrix} == {
        found["image"] for found in _built().values()
    }
    assert "saccade-${SERVICE//_/-}" in TEXT


def _built() -> dict[str, dict]:
    return {name: found for name, found in COMPOSE.items() if "build" in found}


def test_rights_are_those_that_a_job_needs() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    rights = {name: job.get("permissions", {}) for name, job in JOBS.items()}
    assert rights == {
        "build": {}, "images": {"contents": "read", "packages": "write"}, "packages": {"id-token": "write"}
    }  # fmt: skip
    assert set(re.findall(r"secrets\.(\w+)", TEXT)) == {"GITHUB_TOKEN"}, "trusted publishing needs no other"
    assert JOBS["packages"]["environment"] == "release"


def test_only_a_tag_publishes() -> None:
    # YAML reads the word `on` as true.
    assert WORKFLOW[True] == {"push": {"tags": ["v*"]}, "workflow_dispatch": None}
    assert JOBS["packages"]["if"] == "github.ref_type == 'tag'"
    assert set(JOBS["packages"]["needs"]) == {"build", "images"}
    (push,) = [step["with"]["push"] for step in JOBS["images"]["steps"] if "push" in step.get("with", {})]
    assert push == "${{ github.ref_type == 'tag' }}"


@pytest.mark.parametrize("workflow", sorted(path.name for path in (ROOT / ".github/workflows").iterdir()))
def test_actions_have_a_version_and_scripts_no_value_from_outside(workflow: str) -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows" / workflow).read_text())["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    assert [step["uses"] for step in steps if "uses" in step and not re.search(r"@v\d+(\.\d+)*$", step["uses"])] == []
    assert [step["run"] for step in steps if "${{" in step.get("run", "")] == []
    for job in jobs.values():
        assert job["timeout-minutes"] <= 60


def test_what_is_published_was_built_and_checked_before() -> None:
    (script,) = [step["run"] for step in JOBS["build"]["steps"] if step.get("name") == "Build and check"]
    assert "python -m deploy.release --out dist" in script
    uploaded = {step["with"]["name"] for step in JOBS["build"]["steps"] if "upload-artifact" in step.get("uses", "")}
    taken = {step["with"]["name"] for step in JOBS["packages"]["steps"] if "download-artifact" in step.get("uses", "")}
    assert uploaded == taken == {"python", "npm"}
    assert "checkout" not in str(JOBS["packages"]["steps"])
