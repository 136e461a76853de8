"""Jobs through the whole embedded system by the command line, as a user types it."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from saccade_client import Client, ClientError

from contracts.ids import new_id
from kit.process_tree import marked_processes
from tests.harness.servers.embedded import ROOT
from tests.harness.servers.gateway import video
from tests.harness.servers.own_service import PATHS, OwnService
from tests.harness.servers.process_output import read_line
from tests.harness.vision.short_laps import render_short_laps
from tests.lacking_workers.lacking.spec import ABSENT
from tests.system.embedded import TIMEOUT_S, SystemProcess, command, environment, run, up, wait_until


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemProcess]:
    """Start one system for all tests here, with the scripted worker beside the real ones."""
    with up(
        tmp_path_factory.mktemp("embedded") / "data", WORKER_CATALOG="tests.workers,tests.lacking_workers"
    ) as started:
        started.ready()
        yield started
        assert started.stop() == 0


@pytest.fixture
def url(system: SystemProcess) -> str:
    return str(system.said[-1]["url"])


def say(url: str, cwd: Path, *words: str, code: int = 0) -> list[Any]:
    """Run a command with --json and give what it said."""
    done = run(*words, "--url", url, "--json", cwd=cwd)
    assert done.returncode == code, done.stderr
    return [json.loads(line) for line in (done.stdout if code == 0 else done.stderr).splitlines()]


def state(url: str, job: dict[str, Any] | str) -> str:
    with Client(url) as client:
        return client.job(job if isinstance(job, str) else job["id"]).state


def script(*steps: str) -> str:
    return "script=" + json.dumps(steps)


def demonstrated(system: SystemProcess) -> dict[str, Any]:
    """Run the demo, see that its result is near the truth, and return what it said."""
    # Without --url: the system that runs on the data folder is used.
    done = run("demo", "--data", str(system.data), "--json", cwd=system.data, timeout_s=570)
    assert done.returncode == 0, done.stderr
    shown: dict[str, Any] = json.loads(done.stdout)
    whole = shown["figures"][0]
    assert ("faster" in shown["headline"]) == (abs(whole["measured_s"]) > whole["band_s"])
    assert [figure["name"] for figure in shown["figures"]] == ["whole lap", "S1", "S2", "S3"]
    for figure in shown["figures"]:
        assert abs(figure["measured_s"] - figure["true_s"]) < figure["band_s"], figure
    # One frame of the slower film is 40 ms; a comparison of the wrong places is off by seconds.
    assert shown["delta_error_median_s"] < 0.025
    assert shown["delta_error_largest_s"] < 0.12
    assert Path(shown["report"]).stat().st_size > 10_000
    assert Path(shown["overlay"]).stat().st_size > 10_000
    return shown


@pytest.fixture(scope="module")
def laps(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Render two laps whose comparison takes a tenth of the demo's CPU time."""
    return render_short_laps(tmp_path_factory.mktemp("laps"))


def figures_in_readme() -> dict[str, tuple[float, float, float]]:
    """Return README's figures of the demo by name: measured, band, true, s."""
    rows = re.findall(
        r"^(whole lap|S\d)\s+([+-]\d\.\d+)\s+(\d\.\d+)\s+([+-]\d\.\d+)", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    return {name: (float(measured), float(band), float(true)) for name, measured, band, true in rows}


def test_the_demo_finds_what_readme_shows_and_is_near_the_truth(system: SystemProcess) -> None:
    shown, documented = demonstrated(system), figures_in_readme()
    assert [figure["name"] for figure in shown["figures"]] == list(documented)
    # Decoders and linear algebra of another machine may differ in the last digits: a third of a frame is allowed.
    for figure in shown["figures"]:
        found = (figure["measured_s"], figure["band_s"], figure["true_s"])
        assert found == pytest.approx(documented[figure["name"]], abs=0.012), figure


def test_a_comparison_shows_its_headline_and_its_report_opens(
    laps: tuple[Path, Path], url: str, tmp_path: Path
) -> None:
    """Compare two laps, with a browser that writes down what it is asked to open."""
    watched = run("submit", "lap_compare", *map(str, laps), "--watch", "--url", url, cwd=tmp_path)
    assert watched.returncode == 0, watched.stderr
    job_id = next(word for word in watched.stdout.split() if word.startswith("job_"))
    report = f"{url}/v1/jobs/{job_id}/artifacts/report.html"
    with Client(url) as client:
        headline = str(client.job(job_id).headline)
    assert re.match(r"[AB] is \d\.\d\d s faster ± |No clear difference ", headline)
    for said in (watched.stdout, run("job", job_id, "--url", url, cwd=tmp_path).stdout):
        assert headline in said
        assert report in said
        assert "reference lap_a.mp4 · other lap_b.mp4" in said
    assert headline in run("jobs", "--url", url, "--limit", "1", cwd=tmp_path).stdout
    assert headline in run("job", "latest", "--url", url, cwd=tmp_path).stdout
    page = httpx.get(report, follow_redirects=True, trust_env=False).text
    assert headline.partition(" (A: ")[0] in page, "the report says the same"

    asked = tmp_path / "asked"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {asked}\n')
    browser.chmod(0o755)
    opened = run("open", job_id, "--url", url, cwd=tmp_path, BROWSER=str(browser))
    assert (opened.returncode, opened.stdout.strip()) == (0, report)
    wait_until(asked.exists, "the browser is asked")
    wait_until(lambda: asked.read_text().strip() == report, "for the report")
    printed = run("open", job_id, "--url", url, cwd=tmp_path, BROWSER="", DISPLAY="", WAYLAND_DISPLAY="")
    assert printed.stdout.strip() == report
    assert "No browser" in printed.stderr


def test_a_service_of_the_users_own_bills_the_jobs(system: SystemProcess, url: str, tmp_path: Path) -> None:
    """The service and the commands of docs/own-service.md; jobs that ended before it began are billed too."""
    say(url, tmp_path, "submit", "scripted", "--param", script("work 0.1"), "--watch")
    done = run(
        *("key", "service", "billing", "--events", "job.succeeded", "--data", str(system.data), "--json"),
        cwd=tmp_path,
        PYTHONPATH=PATHS,
    )
    assert done.returncode == 0, done.stderr
    with Client(url) as client:
        jobs = {job.id for job in client.jobs(state="succeeded")}
    service = OwnService(tmp_path, json.loads(done.stdout)["url"], tmp_path / "billing.creds")
    service.start()
    service.wait_for_bills(len(jobs))
    assert service.end(signal.SIGTERM) == 0
    assert {job for job, _ in service.bills()} == jobs
    with Client(url) as client:
        assert client.job(min(jobs)).state == "succeeded", "the system goes on with its new users"


@contextmanager
def watching(url: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """Watch the folder ``laps``, as docs/rules.md says."""
    words = ("watch", "laps/", "--path", "{lap}_{side}.mp4", "--results", "results/", "--url", url, "--json")
    more = environment(SACCADE_UPLOADS_DIR=str(cwd / "uploads"))
    with subprocess.Popen(command(*words), cwd=cwd, env=more, text=True, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def read_lines(process: subprocess.Popen[str], key: str) -> dict[str, Any]:
    """Read what a command prints as JSON until a line has a field."""
    assert process.stdout
    while line := read_line(process.stdout, TIMEOUT_S):
        found: dict[str, Any] = json.loads(line)
        if key in found:
            return found
    raise AssertionError("the command has ended")


def test_laps_that_are_dropped_into_a_folder_become_a_report_once(
    laps: tuple[Path, Path], url: str, tmp_path: Path
) -> None:
    """Type the lines of docs/rules.md, copy two laps, and kill the command in between."""
    dropped, results = tmp_path / "laps", tmp_path / "results"
    dropped.mkdir()
    made = ("rules", "create", "lap_compare", "--group-by", "lap", "--needs", "2", "--order", "filename")
    (rule,) = say(url, tmp_path, *made)
    with watching(url, tmp_path) as process:
        # The other lap comes first: the order is that of the names.
        shutil.copy(laps[1], dropped / "7_b.mp4")
        assert read_lines(process, "upload_id")["metadata"] == {"lap": "7", "side": "b"}
        process.kill()
    shutil.copy(laps[0], dropped / "7_a.mp4")
    with watching(url, tmp_path) as process:
        assert read_lines(process, "upload_id")["file"] == "7_a.mp4", "the other one is not uploaded again"
        ended = read_lines(process, "job")
        assert (ended["state"], ended["error"]) == ("succeeded", None)
    (folder,) = (path for path in results.iterdir() if path.is_dir())
    assert folder.name.startswith("7_a_")
    assert (folder / "report.html").stat().st_size > 10_000
    with Client(url) as client:
        (job,) = client.jobs(rule=rule["id"])
        assert job.id == ended["job"]
        names = {name: [file["filename"] for file in files] for name, files in job.inputs.items()}
        assert names == {"reference": ["7_a.mp4"], "other": ["7_b.mp4"]}
        assert job.rule
        assert sorted(job.rule["upload_ids"]) == sorted(file["upload_id"] for (file,) in job.inputs.values())
        shown = client.rules.get(rule["id"])
        assert (shown.jobs_today, shown.last_job, shown.last_skipped) == (1, job.id, None)
        # A result that comes back as an upload starts nothing.
        client.upload(folder / "overlay.mp4", metadata={"lap": "7"})
        wait_until(lambda: client.rules.get(rule["id"]).last_skipped, "the rule to skip its own result")
        skipped = client.rules.get(rule["id"]).last_skipped or {}
        assert skipped["error"]["code"] == "rule_loop"
    table = run("rules", "list", "--url", url, cwd=tmp_path).stdout
    assert "2 uploads, by lap" in table
    tried = run("rules", "try", rule["id"], "--url", url, cwd=tmp_path).stdout
    assert "7_a.mp4, 7_b.mp4" in tried
    assert "rule_loop" in tried
    assert say(url, tmp_path, "rules", "delete", rule["name"]) == [{"id": rule["id"], "deleted": True}]


def test_a_job_is_watched_shown_listed_and_its_files_fetched(url: str, tmp_path: Path) -> None:
    steps = script("stage first", "save one.bin 4096", "stage second", "work 0.3")
    *events, job = say(url, tmp_path, "submit", "scripted", "--param", steps, "--watch")
    assert job["state"] == "succeeded"
    assert [event["type"] for event in events[1:] if event.get("type") == "job.succeeded"] == ["job.succeeded"]
    assert say(url, tmp_path, "job", job["id"])[0]["state"] == "succeeded"
    (refused,) = say(url, tmp_path, "retry", job["id"], code=1)
    assert refused["error"]["code"] == "job_not_retryable"
    assert "has succeeded" in refused["error"]["message"]
    assert "Wait" not in refused["error"]["hint"]
    assert job["id"] in [one["id"] for one in say(url, tmp_path, "jobs", "--state", "succeeded", "--limit", "5")]
    told = [event["type"] for event in say(url, tmp_path, "events", "--job", job["id"])]
    assert told[0] == "job.submitted"
    assert told[-1] == "job.succeeded"
    (manifest,) = say(url, tmp_path, "artifacts", job["id"])
    assert [one["name"] for one in manifest["artifacts"]] == ["one.bin"]
    fetched, listed = say(url, tmp_path, "artifacts", job["id"], "--download", "files")
    assert Path(fetched["path"]).read_bytes() == bytes(range(256)) * 16
    assert json.loads(Path(listed["path"]).read_text())["artifacts"][0]["sha256"] == manifest["artifacts"][0]["sha256"]
    address = f"{url}/v1/jobs/{job['id']}/artifacts/one.bin"
    part = httpx.get(address, headers={"Range": "bytes=255-257"}, follow_redirects=True)
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"\xff\0\1", "bytes 255-257/4096")
    head = httpx.head(address, follow_redirects=True)
    assert (head.status_code, head.headers["content-length"]) == (200, "4096")


def test_a_failed_job_gives_exit_code_1_and_can_be_retried(url: str, tmp_path: Path) -> None:
    steps = script("stage first", "fail clip_static")
    done = run("submit", "scripted", "--param", steps, "--watch", "--url", url, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2].startswith("error: ")
    assert "(clip_static)" in done.stderr
    job_id = next(word for word in done.stdout.split() if word.startswith("job_"))
    (again,) = say(url, tmp_path, "retry", job_id)
    assert again["state"] in ("retrying", "starting", "running", "failed")
    (refused,) = say(url, tmp_path, "retry", job_id.replace(job_id[-1], "0" if job_id[-1] != "0" else "1"), code=1)
    assert refused["error"]["code"] == "job_not_found"


def test_what_no_worker_can_run_is_refused_before_the_first_byte(
    system: SystemProcess, url: str, tmp_path: Path
) -> None:
    assert system.said[-1]["unavailable"] == ["lacking"]
    listed = run("workloads", "--url", url, cwd=tmp_path)
    assert ABSENT in listed.stderr
    assert "hint: Stop the server and start it with: make up-all" in listed.stderr
    available = {line.split()[0]: line.split()[1] for line in listed.stdout.splitlines()[1:]}
    assert (available["lacking"], available["nerf"], available["live_splat"]) == ("no", "yes", "yes")
    (tmp_path / "clip.mp4").write_bytes(b"not sent")
    (refused,) = say(url, tmp_path, "submit", "lacking", "clip.mp4", code=1)
    assert refused["error"]["code"] == "backend_not_installed"
    assert "make up-all" in refused["error"]["hint"]
    with Client(url) as client, pytest.raises(ClientError) as caught:
        client.submit("lacking", {"clip": "upl_00000000-0000-7000-8000-000000000000"})
    assert caught.value.code == "backend_not_installed"
    assert "make up-all" in caught.value.hint


def test_a_job_is_cancelled_with_its_worker(system: SystemProcess, url: str, tmp_path: Path) -> None:
    (job,) = say(url, tmp_path, "submit", "scripted", "--param", script("stage first", "work 600"))
    runs = system.data / "dispatcher" / "runs"
    wait_until(lambda: state(url, job) == "running", "it runs")
    assert any(marked_processes(folder) for folder in runs.glob("run_*"))
    say(url, tmp_path, "cancel", job["id"])
    wait_until(lambda: state(url, job) == "cancelled", "it is cancelled")
    assert not any(marked_processes(folder) for folder in runs.glob("run_*"))
    (refused,) = say(url, tmp_path, "cancel", job["id"], code=1)
    assert refused["error"]["code"] == "job_already_ended"
    for words in (("job", job["id"]), ("events", "--job", job["id"])):
        assert "worker_lost" not in run(*words, "--url", url, cwd=tmp_path).stdout


def test_ctrl_c_while_watching_leaves_the_job_alone(url: str, tmp_path: Path) -> None:
    words = ["submit", "scripted", "--param", script("stage first", "work 600"), "--watch", "--url", url]
    with subprocess.Popen(
        command(*words), cwd=tmp_path, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as watching:
        assert watching.stdout
        assert watching.stderr
        job_id = next(word for word in read_line(watching.stdout).split() if word.startswith("job_"))
        wait_until(lambda: state(url, job_id) == "running", "it runs")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(30) == 130
        said = watching.stderr.read()
    assert "Traceback" not in said
    assert f"saccade cancel {job_id}" in said
    assert state(url, job_id) == "running"
    say(url, tmp_path, "cancel", job_id)


def test_what_is_refused_says_why(url: str, tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("these are words and no video")
    lap = tmp_path / "lap.mp4"
    lap.write_bytes(video())
    refused_early = (
        (("-p", "speed=9"), "unknown_parameter"),
        (("--gpu", "A100"), "invalid_parameter"),
        (("--idempotency-key", "ä"), "idempotency_key_invalid"),
    )
    for words, code in refused_early:
        (refused,) = say(url, tmp_path, "submit", "lap_compare", str(lap), str(lap), *words, code=1)
        assert refused["error"]["code"] == code
    (refused,) = say(url, tmp_path, "submit", "lap_compare", str(lap), new_id("upl"), code=1)
    assert refused["error"]["code"] == "upload_not_found"
    assert "lap.mp4" not in run("events", "--type", "upload.created", "--url", url, cwd=tmp_path).stdout
    for words, code, words_said in (
        (("submit", "live_splat", str(text)), "workload_is_session", "saccade sessions open live_splat"),
        (("sessions", "open", "lap_compare"), "workload_is_job", "saccade submit lap_compare"),
    ):
        (refused,) = say(url, tmp_path, *words, code=2)
        assert refused["error"]["code"] == code
        assert words_said in refused["error"]["hint"]
    for words, code in (
        (("submit", "nothing_like_it"), "unknown_workload"),
        (("submit", "scripted", "--param", "speed=9"), "unknown_parameter"),
        (("submit", "scripted", str(text)), "media_undecodable"),
        (("submit", "lap_compare", "none.mp4", "none.mp4"), "no_such_file"),
        (("job", "job_0198c0de-0000-7000-8000-000000000000"), "job_not_found"),
    ):
        (refused,) = say(url, tmp_path, *words, code=1)
        assert refused["error"]["code"] == code
        assert refused["error"]["hint"]


def test_workloads_describe_themselves(url: str, tmp_path: Path) -> None:
    assert "lap_compare" in run("workloads", "--url", url, cwd=tmp_path).stdout
    described = run("workloads", "lap_compare", "--url", url, cwd=tmp_path).stdout
    assert "reference" in described
    assert "overlay_height_px" in described
