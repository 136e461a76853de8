"""Deployment of a worker on Modal: resources from its declaration, pinned versions, excluded files."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import GIB, MIB
from contracts.workload import Compute
from modal_workers import deployment
from modal_workers.deployment import (
    Deployment,
    app_name,
    function_name,
    is_bytecode,
    requirements,
    uv_version,
    warm_device,
)
from modal_workers.lap_compare.spec import WORKLOAD

GPUS = replace(
    WORKLOAD, compute=Compute(gpus=("T4", "L4", "A10G", "A100", "H100"), timeout_s=90.5, start_timeout_s=20.2)
)


def test_resources_come_from_the_declaration_and_the_timeout_is_later_than_the_dispatchers() -> None:
    asked = Deployment.of(GPUS, "development")
    assert asked.timeout_s > 90.5
    assert asked.startup_timeout_s == 21
    assert asked.memory_mib >= GPUS.compute.memory_bytes / MIB + 256  # a family may hold 256 MiB above its limit
    assert asked.cpu_cores == GPUS.compute.cpu_cores
    twice = replace(GPUS, compute=replace(GPUS.compute, memory_bytes=8 * GIB, cpu_cores=6.0))
    other = Deployment.of(twice, "development")
    assert (other.memory_mib - asked.memory_mib, other.cpu_cores) == (6 * 1024, 6.0)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ("development", ("T4", "L4", "A10", "A100-40GB", "H100")),
        ("production", ("A10", "A100-40GB", "H100")),
    ],
)
def test_the_environment_selects_the_first_gpu_of_a_ladder(
    environment: deployment.Environment, expected: tuple[str, ...]
) -> None:
    asked = Deployment.of(GPUS, environment)
    assert asked.gpus == expected
    assert asked.options()["gpu"] == list(expected)


def test_a_cpu_worker_requests_no_gpu() -> None:
    assert Deployment.of(WORKLOAD, "production").options()["gpu"] is None


@pytest.mark.parametrize("gpu", ["V100", "", "A10:2", "cpu", "local"])
def test_a_gpu_unknown_to_modal_is_rejected_before_the_deployment(gpu: str) -> None:
    with pytest.raises(SaccadeError) as raised:
        Deployment.of(replace(GPUS, compute=Compute(gpus=("T4", gpu))), "development")
    assert raised.value.code is ErrorCode.INVALID_PARAMETER
    assert "A100-80GB" in raised.value.hint


def test_apps_are_named_after_workers() -> None:
    assert app_name("lap_compare") == "saccade-lap-compare"


def test_an_app_and_its_function_may_have_other_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODAL_APP_NAMES", "vision_stream=foresight-gemma3-vlm/Gemma3VLMSession, lap_compare=laps")
    assert (app_name("vision_stream"), function_name("vision_stream")) == ("foresight-gemma3-vlm", "Gemma3VLMSession")
    assert (app_name("lap_compare"), function_name("lap_compare")) == ("laps", "run")
    assert (app_name("nerf_poses"), function_name("nerf_poses")) == ("saccade-nerf-poses", "run")
    asked = Deployment.of(WORKLOAD, "production")
    assert (asked.app_name, asked.options()["name"]) == ("laps", "run")


def test_a_warm_container_is_on_the_first_rung_and_serves_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert warm_device(GPUS, "production") is None
    assert Deployment.of(GPUS, "production").options()["min_containers"] is None
    monkeypatch.setenv("MODAL_WARM_WORKLOADS", f"vision_stream,{GPUS.name}")
    options = Deployment.of(GPUS, "production").options()
    assert (options["min_containers"], options["gpu"], options["single_use_containers"]) == (1, ["A10"], True)
    assert warm_device(GPUS, "production") == "A10"


def _project(folder: Path, extras: str, pins: str) -> None:
    (folder / "pyproject.toml").write_text(
        f"[project]\nname = 'saccade-server'\n[project.optional-dependencies]\n{extras}"
    )
    (folder / "constraints.txt").write_text(f"# versions\n{pins}")


def test_requirements_are_those_of_the_extra_at_the_pinned_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extras = 'kit = ["nats-py[nkeys]>=2", "psutil"]\nbase = ["saccade-server[kit]"]\n'
    extras += 'worker = ["saccade-server[base]", "av>=17", "psutil>=7"]\n'
    pins = "av==18.1.0\nnats-py==2.16.0\npsutil==7.2.2 ; sys_platform != 'win32'\npydantic==2.14.3\nuv==0.13.8\n"
    _project(tmp_path, extras, pins)
    monkeypatch.setattr(deployment, "_ROOT", tmp_path)
    assert requirements("worker") == ["pydantic==2.14.3", "nats-py[nkeys]==2.16.0", "psutil==7.2.2", "av==18.1.0"]
    assert uv_version() == "0.13.8"
    _project(tmp_path, extras, pins.replace("av==18.1.0\n", ""))
    with pytest.raises(ValueError, match="does not pin av"):
        requirements("worker")


def test_a_container_reads_no_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "_ROOT", tmp_path)
    assert requirements("lap-compare") == []
    assert uv_version() is None


def test_every_requirement_of_the_lap_comparison_is_exact() -> None:
    wanted = requirements("lap-compare")
    assert len(wanted) > 8
    assert [name for name in wanted if not re.fullmatch(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[0-9][^\s;]*", name)] == []


@pytest.mark.parametrize(
    ("path", "excluded"),
    [
        ("kit/__pycache__/s3.cpython-311.pyc", True),
        ("kit/s3.py", False),
        ("__init__.py", False),
        ("lap_compare/report.html", False),
        ("py.typed", False),
    ],
)
def test_only_bytecode_is_excluded_from_our_packages(path: str, excluded: bool) -> None:
    assert is_bytecode(Path(path)) is excluded
