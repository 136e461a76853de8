"""Deployed functions of all workers, by ``saccade modal deploy`` and Modal's own client."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib import import_module
from importlib.util import cache_from_source
from pathlib import Path

import modal
import pytest
from modal.exception import RemoteError

from contracts.gpu_ladder import gpu_ladder
from contracts.limits import SESSION_LENGTH_S
from modal_workers.catalog import workloads
from modal_workers.deployment import SECRET, SECRET_KEYS, app_name, requirements
from modal_workers.live_splat.spec import WORKLOAD as LIVE_SPLAT
from tests.harness.dispatch.modal_command import BUCKET, Command
from tests.modal_loopback import Loopback, dialled, running
from tests.modal_loopback.interpreter import make_interpreter
from tests.rules.tree import ROOT, files

#: Secret with the token of the Hugging Face hub.
HUB = "huggingface-secret"
#: Declarations of workers that are deployed.
_SPECS = r"(?:modal_workers|tests/workers)/[a-z_]+(?:/[a-z_]+)?/spec\.py"
_APPS = _SPECS.replace("spec", "app")


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    """Deploy every worker once, ours and those of the tests, for production."""
    with running(tmp_path_factory.mktemp("loopback"), environment="trial") as loopback:
        loopback.secrets |= {SECRET: dict(BUCKET), HUB: {"HF_TOKEN": "a token that no container gets"}}
        done = Command(loopback, tmp_path_factory.mktemp("home"))("deploy", "--env", "prod")
        assert done.returncode == 0, done.stdout + done.stderr
        yield loopback
        assert loopback.unimplemented == set()


def test_one_command_deploys_every_worker(deployed: Loopback) -> None:
    specs = [path for path in files() if re.fullmatch(_SPECS, path)]
    declared = [import_module(path.removesuffix(".py").replace("/", ".")).WORKLOAD for path in specs]
    # A pipeline has no worker: its stages, in folders below it, are deployed instead.
    workers = {app_name(workload.name) for workload in declared if workload.kind != "pipeline"}
    assert len(workers) == len([path for path in files() if re.fullmatch(_APPS, path)])
    assert {"saccade-lap-compare", "saccade-live-splat"} < workers
    assert {asked.app for asked in deployed.functions} == workers
    assert {(asked.name, asked.environment) for asked in deployed.functions} == {("run", "trial")}


def test_no_worker_can_call_modal_or_is_retried_by_it(deployed: Loopback) -> None:
    for asked in deployed.functions:
        assert asked.restrict_modal_access, asked.app
        assert asked.single_use, asked.app
        assert (asked.retries, asked.concurrency) == (0, 1), asked.app
        assert asked.secrets == {SECRET: SECRET_KEYS}, asked.app


def test_the_lap_comparison_requests_the_compute_of_its_declaration(deployed: Loopback) -> None:
    asked = deployed.function("saccade-lap-compare")
    assert asked.gpus == ()
    assert asked.cpu_cores == 2.0
    assert 3 * 1024 < asked.memory_mib <= 4 * 1024  # its 3 GiB and memory for the supervising process
    assert 3600 < asked.timeout_s <= 3630  # the dispatcher's timeout comes first
    assert asked.startup_timeout_s == 60
    assert asked.volumes == {}


def test_the_image_installs_every_package_at_its_pinned_version(deployed: Loopback) -> None:
    lines = deployed.function("saccade-lap-compare").image_lines
    installs = [line for line in lines if "uv pip install" in line]
    assert len(installs) == 1
    versions = dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    direct = ("pydantic", "nats-py", "aiobotocore", "psutil", "av", "opencv-python-headless", "numpy", "matplotlib")
    for package in direct:
        assert re.search(rf"\b{package}(\[nkeys\])?=={re.escape(versions[package])}", installs[0]), package
    assert "--constraints /constraints.txt" in installs[0]  # and their dependencies
    assert lines.index("COPY . /") < lines.index(installs[0])
    assert f"COPY --from=ghcr.io/astral-sh/uv:{versions['uv']} /uv /.uv/uv" in lines
    assert lines[0].startswith("FROM python:3.11")
    assert "ENV OMP_WAIT_POLICY=PASSIVE" in lines


def test_the_live_splat_requests_gpus_and_compiles_gsplat_into_its_image(deployed: Loopback) -> None:
    asked = deployed.function("saccade-live-splat")
    assert asked.gpus == ("A10", "A100-40GB")
    torch, gsplat = (next(line for line in asked.image_lines if name in line) for name in ("torch==2.10.0", "gsplat=="))
    assert "torch==2.13.0" not in torch, "constraints pin it for machines without CUDA"
    architectures = next(line for line in asked.image_lines if "TORCH_CUDA_ARCH_LIST" in line)
    lines = asked.image_lines
    assert lines.index(torch) < lines.index(architectures) < lines.index(gsplat)
    assert "--no-build-isolation" in gsplat
    compiled = {"T4": "7.5", "A10": "8.6", "A100-40GB": "8.0"}
    assert all(compiled[gpu] in architectures for gpu in gpu_ladder(LIVE_SPLAT.compute.gpus, "development"))
    assert "nats-py[nkeys]==" in torch, "the worker proves with a key that the token is its own"
    assert "modal_workers/runtime/sessions/telemetry_source.py" in asked.files
    assert asked.cpu_cores == 2.0
    assert 4 * 1024 < asked.memory_mib <= 5 * 1024
    assert SESSION_LENGTH_S < asked.timeout_s <= SESSION_LENGTH_S + 660, "the session's own limit comes first"


def test_the_gpu_stages_of_nerf_compile_gsplat_and_request_their_ladder(deployed: Loopback) -> None:
    for stage in ("training", "rendering"):
        asked = deployed.function(f"saccade-nerf-{stage}")
        assert asked.gpus == ("A10", "A100-40GB"), stage
        lines = asked.image_lines
        torch, gsplat = (next(line for line in lines if name in line) for name in ("torch==2.10.0", "gsplat==1.5.3"))
        assert lines.index(torch) < lines.index(gsplat)
        assert "torch==2.13.0" not in torch, "constraints pin it for machines without CUDA"
        declared = workloads()[f"nerf_{stage}"].compute
        assert declared.timeout_s < asked.timeout_s <= declared.timeout_s + 30, stage
        assert {"modal_workers/nerf/orbit.py", f"modal_workers/nerf/{stage}/job.py"} <= set(asked.files)


def test_only_the_stages_of_nerf_have_the_cache(deployed: Loopback) -> None:
    stages = [app_name(name) for name in workloads() if name.startswith("nerf_")]
    assert len(stages) == 7
    for asked in deployed.functions:
        if asked.app in stages:
            assert asked.volumes == {"/nerf-data": "nerf-data"}, asked.app
            assert "ENV WORKER_CACHE_FOLDER=/nerf-data" in asked.image_lines, asked.app
            assert "ENV MODAL_VOLUME_CLEANUP_HOURS=48" in asked.image_lines, asked.app
        elif asked.app.removeprefix("saccade-") not in ("scripted", "laddered"):
            assert asked.volumes == {}, asked.app


def test_badminton_has_ultralytics_and_its_weights_from_the_build(deployed: Loopback) -> None:
    text = "\n".join(deployed.function("saccade-badminton").image_lines)
    wanted = ("ultralytics-opencv-headless==8.4.190", "torch==2.10.0", *(f"'yolo26{size}-pose.pt'" for size in "nsmlx"))
    assert all(each in text for each in wanted), text


def test_nerfstudio_has_a_separate_environment(deployed: Loopback) -> None:
    for stage in ("training_nerfstudio", "rendering_nerfstudio"):
        asked = deployed.function(f"saccade-nerf-{stage.replace('_', '-')}")
        assert asked.gpus == ("A10", "A100-40GB"), stage
        lines = asked.image_lines
        text = "\n".join(lines)
        assert text.startswith("FROM nvidia/cuda:11.8.0-devel"), stage
        torch = "torch==2.1.2 torchvision==0.16.2 --torch-backend=cu118"
        order = ("uv venv --python 3.10", torch, "tiny-cuda-nn.git@b3473c8", "nerfstudio==1.1.5")
        assert [text.index(step) for step in order] == sorted(text.index(step) for step in order), stage
        own = next(line for line in lines if "uv pip install" in line and "nats-py" in line)
        assert "nerfstudio" not in own, "the two environments are incompatible"
        assert "modal_workers/nerf/nerfstudio/draw_frames.py" in asked.files


def test_the_ladder_of_a_live_splat_starts_lower_in_development(command: Command) -> None:
    command.loopback.secrets[SECRET] = dict(BUCKET)
    assert command("deploy", "--env", "dev", "--worker", "live_splat").returncode == 0
    assert command.loopback.function("saccade-live-splat").gpus == ("T4", "A10", "A100-40GB")


def test_our_source_is_not_part_of_an_image_and_only_needed_files_are_uploaded(deployed: Loopback) -> None:
    asked = deployed.function("saccade-lap-compare")
    assert not any("modal_workers" in line for line in asked.image_lines)
    there = set(asked.files)
    assert {
        "modal_workers/lap_compare/app.py",
        "modal_workers/lap_compare/report/report.html",
        "kit/bucket.py",
    } <= there
    roots = ("contracts/", "kit/", "modal_workers/")
    assert [path for path in there if not path.startswith(roots)] == []
    assert there.isdisjoint(path for path in files() if path.startswith(("simulators/", "services/")))
    assert [path for path in there if "__pycache__" in path] == []
    assert there <= set(files()), "only files of the repository are uploaded"


def test_no_image_carries_a_service_or_a_simulator(deployed: Loopback) -> None:
    assert any(path.startswith("simulators/") for path in files())
    for asked in deployed.functions:
        roots = {path.partition("/")[0] for path in asked.files}
        assert {"contracts", "kit", "modal_workers"} <= roots <= {"contracts", "kit", "modal_workers", "tests"}, (
            asked.app
        )


def test_the_uploaded_files_are_sufficient(deployed: Loopback, tmp_path: Path) -> None:
    for path in deployed.function("saccade-lap-compare").files:
        (tmp_path / "root" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, tmp_path / "root" / path)
        compiled = Path(cache_from_source(path))
        if (ROOT / compiled).exists():  # the bytecode is the same: nothing is compiled again
            (tmp_path / "root" / compiled).parent.mkdir(exist_ok=True)
            shutil.copy2(ROOT / compiled, tmp_path / "root" / compiled)
    python = make_interpreter(tmp_path / "python")
    program = (
        "import modal_workers.runtime.modal_entry, modal_workers.runtime.worker_process\n"
        "import modal_workers.runtime.attempt\n"
        "import modal_workers.runtime.bus.nats_bus, modal_workers.runtime.bus.http_bus\n"
        "import modal_workers.lap_compare.job, modal_workers.lap_compare.report.report as report\n"
        "import modal_workers.live_splat.session\n"
        "import modal_workers.runtime.sessions.running_session, modal_workers.runtime.sessions.session_bus\n"
        "from modal_workers.catalog import workloads\n"
        "print(report.__file__, *workloads())\n"
        "assert all(report._asset(name) for name in ('report.html', 'report.css', 'report.js'))\n"
    )
    done = subprocess.run(
        [python, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "root")},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    report = str(tmp_path / "root/modal_workers/lap_compare/report/report.py")
    assert done.stdout.split() == [report, *workloads()]


def test_a_worker_requests_its_ladder_from_the_smallest_gpu_of_the_environment(
    deployed: Loopback, command: Command
) -> None:
    assert deployed.function("saccade-laddered").gpus == ("A10", "A100-40GB")
    assert deployed.function("saccade-laddered").volumes == {"/weights": "saccade-weights"}
    command.loopback.secrets[SECRET] = dict(BUCKET)
    done = command("deploy", "--env", "dev", "--worker", "laddered", "--json")
    assert done.returncode == 0, done.stderr
    assert command.loopback.function("saccade-laddered").gpus == ("T4", "A10", "A100-40GB")
    assert [asked.app for asked in command.loopback.functions] == ["saccade-laddered"]
    deployments = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(entry["worker"], entry["app"], entry["gpus"]) for entry in deployments] == [
        ("laddered", "saccade-laddered", ["T4", "A10", "A100-40GB"])
    ]


def test_a_deploy_uses_the_development_environment_by_default(command: Command) -> None:
    command.loopback.secrets[SECRET] = dict(BUCKET)
    assert command("deploy", "--worker", "laddered").returncode == 0
    assert command("deploy", "--worker", "laddered", ENVIRONMENT="production").returncode == 0
    assert [asked.gpus[0] for asked in command.loopback.functions] == ["T4", "A10"]


def test_the_bucket_credentials_are_only_in_the_secret(command: Command) -> None:
    keys = {
        "B2_S3_ENDPOINT": "s3.eu.example",
        "B2_BUCKET": "films",
        "B2_KEY_ID": "004f",
        "B2_APP_KEY": "K004 shown to none",
    }
    # CI pipelines set such variables for secrets that a repository does not have.
    done = command("secret", **keys, S3_ENDPOINT_URL="", S3_ACCESS_KEY_ID="", S3_REGION="", B2_REGION="")
    assert done.returncode == 0, done.stderr
    kept = command.loopback.secrets[SECRET]
    assert [kept[key] for key in SECRET_KEYS] == ["https://s3.eu.example", "films", "004f", "K004 shown to none"]
    assert kept["S3_REGION"] == "us-east-1"
    assert "K004" not in done.stdout + done.stderr
    assert command("secret", **BUCKET).returncode == 0  # replaces it
    assert command.loopback.secrets[SECRET]["S3_BUCKET"] == "pictures"
    assert command("deploy", "--worker", "scripted").returncode == 0
    lines = command.loopback.function("saccade-scripted").image_lines
    assert not any(value in line for value in BUCKET.values() for line in lines)


def test_without_bucket_settings_no_secret_is_created(command: Command) -> None:
    done = command("secret", S3_ENDPOINT_URL="https://s3.example", S3_ACCESS_KEY_ID="", S3_SECRET_ACCESS_KEY="")
    assert done.returncode == 1
    assert "setting_invalid" in done.stderr
    assert command.loopback.secrets == {}


@pytest.mark.share(every=2)
@pytest.mark.parametrize("kept", [None, {"S3_ENDPOINT_URL": "https://s3.example"}])
def test_a_deploy_without_the_secret_says_how_to_create_it(command: Command, kept: dict[str, str] | None) -> None:
    if kept:
        command.loopback.secrets[SECRET] = kept
    done = command("deploy", "--worker", "lap_compare")
    assert done.returncode == 1
    assert "modal_secret_missing" in done.stderr
    assert "saccade modal secret" in done.stderr
    assert command.loopback.functions == []


@pytest.mark.share(every=2)
@pytest.mark.parametrize(
    "token",
    [
        {"MODAL_TOKEN_ID": "", "MODAL_TOKEN_SECRET": ""},
        {"MODAL_TOKEN_SECRET": ""},
        {"MODAL_TOKEN_ID": "ak-somebody-else-s"},
    ],
)
def test_a_deploy_with_an_invalid_token_says_how_to_get_one(command: Command, token: dict[str, str]) -> None:
    done = command("deploy", **token)
    assert done.returncode == 1
    assert "modal_token_missing" in done.stderr
    assert "modal token new" in done.stderr
    assert done.stdout.count("Error: Token") == 1, "the other workers are not tried"


def test_names_are_checked_before_any_request(command: Command) -> None:
    command.worker("mine", "quick", gpus=("A10", "V100"), app="raise SystemExit('was imported')")
    command.worker("mine", "unfinished")
    expected = {
        "nothing": "unknown_workload",
        "quick": "V100",
        "unfinished": "worker_has_no_app",
    }
    for name, says in expected.items():
        done = command("deploy", "--worker", "lap_compare", "--worker", name, catalog="mine")
        assert done.returncode in (1, 2), name
        assert says in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
    assert command.loopback.requests == []


def test_a_rejected_worker_does_not_stop_the_others(command: Command) -> None:
    command.loopback.secrets |= {SECRET: dict(BUCKET), HUB: {"HF_TOKEN": "t"}}
    command.worker("mine", "broken", app="raise ValueError('does not import')")
    command.worker("mine", "ending", app="import os\nprint('ends the process', flush=True)\nos._exit(0)")
    command.worker("mine", "leaving", app="raise SystemExit('leaves')")
    done = command("deploy", catalog="mine")
    assert done.returncode == 1
    for says in ("ValueError: does not import", "ends the process", "leaves"):
        assert done.stdout.count(says) == 1, says
    assert "did not deploy broken, ending, leaving" in done.stderr
    ours = [app_name(name) for name, workload in workloads().items() if workload.kind != "pipeline"]
    assert len(ours) > 2
    assert sorted(asked.app for asked in command.loopback.functions) == sorted(ours)


def test_a_package_missing_in_an_app_fails_the_first_call(command: Command) -> None:
    text = (ROOT / "tests/workers/scripted/app.py").read_text().replace("tests.workers.scripted", "mine.forgetful")
    assert text.count('*SOURCE, "tests.workers"') == 1
    forgot = text.replace('*SOURCE, "tests.workers"', '"contracts", "modal_workers", "mine"')
    command.worker("mine", "forgetful", app=forgot)
    command.loopback.secrets[SECRET] = dict(BUCKET)
    done = command("deploy", "--worker", "forgetful", catalog="mine")
    assert done.returncode == 0, done.stdout + done.stderr
    with (
        dialled(command.loopback),
        pytest.raises((ModuleNotFoundError, RemoteError), match="No module named 'kit'"),
    ):
        modal.Function.from_name("saccade-forgetful", "run").spawn({}).get(timeout=30)


def test_every_requirement_of_the_worker_is_pinned() -> None:
    assert all(
        re.fullmatch(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[0-9][^\s]*", line) for line in requirements("lap-compare")
    )
