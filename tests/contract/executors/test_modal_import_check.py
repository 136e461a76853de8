"""``saccade modal deploy``: the import of a worker in its image, before the deployed version is replaced."""

from __future__ import annotations

import subprocess

import modal

from modal_workers.deployment import SECRET
from tests.harness.dispatch.modal_command import BUCKET, Command
from tests.modal_loopback import dialled
from tests.rules.tree import ROOT


def app_of(name: str) -> str:
    """Return the app of a user's worker in the catalog ``mine``."""
    text = (ROOT / "tests/workers/scripted/app.py").read_text().replace("tests.workers.scripted", f"mine.{name}")
    text = text.replace('*SOURCE, "tests.workers"', '*SOURCE, "tests.workers", "mine"')
    return text.replace('"WORKER_CATALOG": "tests.workers"', '"WORKER_CATALOG": "mine"')


def test_a_worker_that_cannot_be_imported_in_its_image_leaves_the_deployed_version(command: Command) -> None:
    """The old version goes on answering; the new one lacks a package, or its job a module."""
    text = app_of("changing")
    command.worker("mine", "changing", app=text)
    folder = command.home / "mine" / "changing"
    command.loopback.secrets[SECRET] = dict(BUCKET)

    def deploy() -> subprocess.CompletedProcess[str]:
        return command("deploy", "--check", "--worker", "changing", catalog="mine")

    done = deploy()
    assert done.returncode == 0, done.stdout + done.stderr
    for app, spec, says in (
        (text.replace("*SOURCE, ", '"contracts", "modal_workers", '), None, "No module named 'kit'"),
        (text, "mine.changing.absent:run", "No module named 'mine.changing.absent'"),
    ):
        (folder / "app.py").write_text(app)
        if spec:
            (folder / "spec.py").write_text(
                (folder / "spec.py").read_text().replace("tests.workers.scripted.job:run", spec)
            )
        done = deploy()
        assert done.returncode == 1
        assert says in done.stdout, done.stdout + done.stderr
        assert "did not deploy changing" in done.stderr
    with dialled(command.loopback):
        found = modal.Function.from_name("saccade-changing", "run").remote({"check_imports": "changing"})
    assert found["imported"][-1] == "tests.workers.scripted.job"


def test_a_worker_whose_imports_do_not_end_is_not_deployed(command: Command) -> None:
    command.worker("mine", "endless", app=app_of("endless"))
    spec = command.home / "mine" / "endless" / "spec.py"
    spec.write_text(spec.read_text().replace("tests.workers.scripted.job:run", "mine.endless.job:run"))
    spec.with_name("job.py").write_text("import time\n\ntime.sleep(600)\n")
    command.loopback.secrets[SECRET] = dict(BUCKET)
    done = command("deploy", "--check", "--check-timeout", "5", "--worker", "endless", catalog="mine")
    assert done.returncode == 1
    assert "no container of endless has imported its modules within 5 s" in done.stdout, done.stdout + done.stderr
    assert "did not deploy endless" in done.stderr


def test_a_check_without_the_secret_or_a_token_says_what_is_missing(command: Command) -> None:
    done = command("deploy", "--check", "--worker", "scripted")
    assert done.returncode == 1
    assert "modal_secret_missing" in done.stderr
    done = command("deploy", "--check", "--worker", "scripted", MODAL_TOKEN_ID="", MODAL_TOKEN_SECRET="")
    assert done.returncode == 1
    assert "modal_token_missing" in done.stderr
    assert command.loopback.functions == []
