"""The loopback of Modal behaves like Modal for Modal's own client: calls, containers, GPUs, faults, shutdown."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import modal
import psutil
import pytest
from grpclib import Status
from modal.exception import (
    FunctionTimeoutError,
    InternalFailure,
    OutputExpiredError,
    RemoteError,
    ResourceExhaustedError,
    ServiceError,
)

from tests.modal_loopback import Loopback, dialled, running
from tests.modal_loopback.sampled import small_worker


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    """Deploy the small worker once."""
    with small_worker(tmp_path_factory.mktemp("loopback"), environment="trial") as loopback:
        yield loopback


@pytest.fixture
def loopback(shared: Loopback) -> Iterator[Loopback]:
    """Return the shared loopback with default settings; check afterwards that every request was supported."""
    shared.capacity.clear()
    shared.heal()
    yield shared
    assert shared.unimplemented == set()


def worker(gpu: str = "T4") -> modal.Function:
    return modal.Function.from_name("small-worker", "run").with_options(gpu=gpu)


def wait_until(reached: Callable[[], Any], what: str, timeout_s: float = 30.0) -> Any:
    end = time.monotonic() + timeout_s
    while not (value := reached()):
        assert time.monotonic() < end, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)
    return value


def started_in(folder: Path) -> list[int]:
    wait_until((folder / "started.json").exists, "the call has started")
    return json.loads((folder / "started.json").read_text())


def living(pids: list[int]) -> list[int]:
    alive = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                alive.append(pid)
        except psutil.NoSuchProcess:
            pass
    return alive


def wait_for_end(pids: list[int]) -> None:
    wait_until(lambda: not living(pids), f"{pids} have ended")


def test_deploy_records_what_the_function_asked_for(loopback: Loopback) -> None:
    asked = loopback.function("small-worker")
    assert asked.gpus == ("T4", "A10")
    assert (asked.cpu_cores, asked.memory_mib) == (2, 1024)
    assert (asked.timeout_s, asked.startup_timeout_s) == (60, 30)
    assert asked.secrets == {"bucket": ("S3_KEY",)}
    assert asked.volumes == {"/weights": "weights"}
    assert (asked.retries, asked.restrict_modal_access, asked.single_use, asked.concurrency) == (0, True, True, 1)
    assert asked.environment == "trial"
    assert any("uv pip install" in line and "numpy==2.1.0" in line for line in asked.image_lines)
    assert asked.files == (
        "small_source/__init__.py",
        "small_source/empty.py",
        "small_worker.py",
    )


def test_a_call_returns_its_result_from_a_container_with_the_chosen_gpu(loopback: Loopback) -> None:
    call = worker("A100").spawn({"do": "answer", "number": 4})
    answer = call.get(timeout=30)
    assert answer["launch"] == {"do": "answer", "number": 4}
    environment = answer["environment"]
    assert environment["S3_KEY"] == "k1"
    assert environment["WEIGHTS"] == "a folder"
    assert environment["LOOPBACK_GPU"] == "A100"
    assert "PYTEST_CURRENT_TEST" not in environment
    assert Path(environment["HOME"]) != Path.home()
    assert not {name for name in environment if "TOKEN" in name}
    record = next(each for each in loopback.containers if call.object_id in each.calls)
    assert (record.gpu, record.id, record.app) == ("A100", environment["LOOPBACK_CONTAINER"], "small-worker")
    wait_until(lambda: record.exit_code == 0, "a single-use container has ended")


def test_container_sees_only_what_was_uploaded(loopback: Loopback) -> None:
    ours = ["contracts", "kit", "modal_workers", "cli", "tests"]
    found = worker().spawn({"do": "look", "modules": [*ours, "pydantic", "small_source.empty"]}).get(timeout=30)
    assert found == {**dict.fromkeys(ours, "nowhere"), "pydantic": "here", "small_source.empty": "here"}


def test_forgotten_source_fails_as_it_would_at_modal(loopback: Loopback, tmp_path: Path) -> None:
    module = tmp_path / "forgetful.py"
    module.write_text(
        "import modal\nimport contracts\napp = modal.App('forgetful')\n"
        "@app.function(serialized=False)\ndef run(launch):\n    return contracts.__name__\n"
    )
    # With the client's command line in a separate process, which finds the project.
    command = [sys.executable, "-m", "modal", "deploy", str(module)]
    project = str(Path(__file__).parents[3])
    environment = {"PATH": "", "HOME": str(tmp_path), "PYTHONPATH": project, **loopback.environment}
    deployed = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    call = modal.Function.from_name("forgetful", "run").spawn({})
    with pytest.raises(ModuleNotFoundError, match="No module named 'contracts'"):
        call.get(timeout=30)
    assert "No module named 'contracts'" in loopback.log()


@pytest.mark.parametrize(("do", "says"), [("fail", r"ValueError\('bad 7'\)"), ("leave", "exit code: 3")])
def test_failure_of_the_code_arrives_as_a_remote_error(loopback: Loopback, do: str, says: str) -> None:
    with pytest.raises(RemoteError, match=says):
        worker().spawn({"do": do}).get(timeout=30)


def test_large_arguments_and_results_use_the_blob_store(loopback: Loopback) -> None:
    answer = worker().spawn({"do": "large", "bytes": "x" * 20_000}).get(timeout=30)
    assert (answer["got"], len(answer["text"])) == (20_000, 3_000_000)
    assert loopback.sent("BlobCreate")


def test_an_input_over_its_timeout_is_killed_with_all_its_children(loopback: Loopback, tmp_path: Path) -> None:
    base = modal.Function.from_name("small-worker", "run")
    call = base.with_options(gpu="T4", timeout=2).spawn({"do": "hang", "folder": str(tmp_path)})
    pids = started_in(tmp_path)
    with pytest.raises(FunctionTimeoutError):
        call.get(timeout=30)
    wait_for_end(pids)
    assert not (tmp_path / "ended").exists()  # no code ran


def test_container_that_does_not_start_in_time_fails_the_call(loopback: Loopback, tmp_path: Path) -> None:
    (tmp_path / "sluggish.py").write_text(
        "import modal, time\napp = modal.App('sluggish')\nif not modal.is_local():\n    time.sleep(300)\n"
        "@app.function(startup_timeout=2)\ndef run(launch):\n    return 1\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        importlib.import_module("sluggish").app.deploy()
    with pytest.raises(FunctionTimeoutError, match="start"):
        modal.Function.from_name("sluggish", "run").spawn({}).get(timeout=30)


def test_call_that_waits_for_a_gpu_shows_as_backlog_and_is_granted_later(loopback: Loopback) -> None:
    loopback.capacity["H100"] = 0
    function = worker("H100")
    calls = [function.spawn({"do": "answer"}) for _ in range(2)]
    with pytest.raises(TimeoutError):
        calls[0].get(timeout=0)
    stats = function.get_current_stats()
    assert (stats.backlog, stats.num_total_runners, stats.num_running_inputs) == (2, 0, 0)
    calls[1].cancel()
    with pytest.raises(RemoteError, match="cancelled"):
        calls[1].get(timeout=10)
    assert function.get_current_stats().backlog == 1
    loopback.capacity["H100"] = 1
    assert calls[0].get(timeout=30)["environment"]["LOOPBACK_GPU"] == "H100"


def test_a_list_of_gpus_uses_the_first_available_one(loopback: Loopback) -> None:
    loopback.capacity["T4"] = 0
    call = modal.Function.from_name("small-worker", "run").spawn({"do": "answer"})
    assert call.get(timeout=30)["environment"]["LOOPBACK_GPU"] == "A10"


def test_cancel_of_a_running_call_reaches_its_code(loopback: Loopback, tmp_path: Path) -> None:
    call = worker().spawn({"do": "hang", "folder": str(tmp_path)})
    pids = started_in(tmp_path)
    call.cancel()
    with pytest.raises(RemoteError):
        call.get(timeout=30)
    assert (tmp_path / "ended").read_text() == "InputCancellation"
    wait_for_end(pids)


def test_cancel_with_termination_of_containers_kills(loopback: Loopback, tmp_path: Path) -> None:
    call = worker().spawn({"do": "hang", "folder": str(tmp_path)})
    pids = started_in(tmp_path)
    call.cancel(terminate_containers=True)
    with pytest.raises(RemoteError, match="cancelled"):
        call.get(timeout=30)
    wait_for_end(pids)
    assert not (tmp_path / "ended").exists()


@pytest.mark.parametrize("stubborn", [False, True])
def test_preempted_input_runs_again_elsewhere(loopback: Loopback, tmp_path: Path, stubborn: bool) -> None:
    call = worker().spawn({"do": "hang", "folder": str(tmp_path), "stubborn": stubborn})
    pids = started_in(tmp_path)
    loopback.preempt(call.object_id, grace_s=0.3 if stubborn else 20.0)
    assert call.get(timeout=30) == {"run": "again"}
    assert (tmp_path / "ended").read_text() == "KeyboardInterrupt"
    wait_for_end(pids)
    first, second = (each for each in loopback.containers if call.object_id in each.calls)
    assert first.ended
    assert first.id != second.id


def test_preempted_input_of_an_async_function_runs_again_too(loopback: Loopback, tmp_path: Path) -> None:
    call = modal.Function.from_name("small-worker", "wait").spawn({"folder": str(tmp_path)})
    started_in(tmp_path)
    loopback.preempt(call.object_id)
    assert call.get(timeout=30) == {"run": "again"}


@pytest.mark.parametrize(
    ("result", "error", "says"),
    [("failure", RemoteError, "exit code: 137"), ("internal_failure", InternalFailure, "lost"), ("requeue", None, "")],
)
def test_a_killed_container_ends_with_the_configured_result(
    loopback: Loopback, tmp_path: Path, result: str, error: type[Exception] | None, says: str
) -> None:
    call = worker().spawn({"do": "hang", "folder": str(tmp_path)})
    pids = started_in(tmp_path)
    loopback.kill(call.object_id, result)
    if error is None:
        assert call.get(timeout=30) == {"run": "again"}
    else:
        with pytest.raises(error, match=says):
            call.get(timeout=30)
    wait_for_end(pids)
    assert not (tmp_path / "ended").exists()
    with pytest.raises(KeyError):
        loopback.kill(call.object_id)


def test_a_throttled_spawn_is_refused_at_once_or_repeated_after_the_servers_delay(loopback: Loopback) -> None:
    loopback.capacity["L4"] = 0
    function = worker("L4")
    loopback.fail("FunctionMap", Status.RESOURCE_EXHAUSTED)
    with pytest.raises(ResourceExhaustedError):
        function.spawn({"do": "answer"})
    assert function.get_current_stats().backlog == 0
    loopback.fail("FunctionMap", Status.RESOURCE_EXHAUSTED, times=2, retry_policy=0.1)
    before = len(loopback.sent("FunctionMap"))
    function.spawn({"do": "answer"}).cancel()
    assert len(loopback.sent("FunctionMap")) - before == 3


def test_lost_reply_takes_effect_once(loopback: Loopback) -> None:
    loopback.capacity["L40S"] = 0
    function = worker("L40S")
    loopback.lose_reply("FunctionMap")
    before = len(loopback.sent("FunctionMap"))
    first = function.spawn({"do": "answer"})
    attempts = [request for request in loopback.requests if request.rpc == "FunctionMap"][before:]
    assert len(attempts) == 2
    assert len({request.idempotency_key for request in attempts}) == 1
    assert function.get_current_stats().backlog == 1
    loopback.lose_reply("FunctionMap", times=4)  # more often than the client tries
    with pytest.raises(ServiceError):
        function.spawn({"do": "answer"})
    assert function.get_current_stats().backlog == 2
    first.cancel()
    assert function.get_current_stats().backlog == 1


def test_forgotten_call_has_expired(loopback: Loopback) -> None:
    call = worker().spawn({"do": "answer"})
    call.get(timeout=30)
    loopback.forget(call.object_id)
    with pytest.raises(OutputExpiredError):
        modal.FunctionCall.from_id(call.object_id).get(timeout=0)


def test_a_missing_object_is_named_in_the_error(tmp_path: Path) -> None:
    with running(tmp_path) as other, dialled(other):
        with pytest.raises(modal.exception.Error):
            modal.Dict.from_name("settings", create_if_missing=True).hydrate()
        assert other.unimplemented == {"DictGetOrCreate"}


def test_no_process_or_file_is_left_after_shutdown(shared: Loopback, tmp_path: Path) -> None:
    with running(tmp_path) as other, dialled(other):
        other.secrets["bucket"] = {"S3_KEY": "k2"}
        importlib.reload(sys.modules["small_worker"]).app.deploy()
        worker().spawn({"do": "hang", "folder": str(tmp_path)})
        pids = started_in(tmp_path)
        root = Path(psutil.Process(pids[0]).cwd())
        assert root.exists()
        assert len(living(pids)) == 3
    assert living(pids) == []
    assert not root.exists()


def test_an_internal_error_of_the_loopback_is_raised(tmp_path: Path) -> None:
    def look_up_a_secret_that_is_no_mapping() -> None:
        with running(tmp_path) as other, dialled(other):
            other.secrets["broken"] = 7  # type: ignore[assignment]
            with pytest.raises(modal.exception.Error):
                modal.Secret.from_name("broken", required_keys=["S3_KEY"]).hydrate()

    with pytest.raises(BaseExceptionGroup) as raised:
        look_up_a_secret_that_is_no_mapping()
    assert raised.group_contains(TypeError)


def test_a_connected_client_of_another_process_does_not_delay_the_shutdown(tmp_path: Path) -> None:
    waits = (
        "import modal, sys\n"
        "call = modal.FunctionCall.from_id('fc-000000')\n"
        "print('dials', flush=True)\n"
        "call.get(timeout=60)\n"
    )
    with running(tmp_path) as other:
        environment = {"PATH": "", "HOME": str(tmp_path), **other.environment}
        client = subprocess.Popen(
            [sys.executable, "-c", waits], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        wait_until(lambda: other.sent("FunctionGetOutputs"), "the client has sent a request")
        time.sleep(0.5)
        assert len(other.sent("FunctionGetOutputs")) == 1  # the request is held open, so it is not repeated
    assert client.poll() is None
    client.kill()
    client.communicate(timeout=30)
