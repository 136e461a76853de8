"""``saccade modal``: brings workers and the bucket's secret to Modal, by Modal's own command in a child process."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import click

from cli.embedded.workers_on_modal import require_modal_client
from cli.failure import USAGE, Failure
from cli.output import print_json, print_line, print_note
from cli.settings import ROOT, child_environment
from contracts.errors import SaccadeError
from contracts.gpu_ladder import Environment
from kit.settings import S3Settings, as_environment
from modal_workers import catalog
from modal_workers.deployment import SECRET, Deployment, constraints
from modal_workers.settings import DeploymentSettings

_ENVIRONMENTS: Final[dict[str, Environment]] = {"dev": "development", "prod": "production"}
#: As Modal's client and server say it.
_NO_TOKEN: Final = re.compile(r"\bToken (missing|validation failed|ID and secret must)")
#: How many of the last lines are searched for why Modal refused.
_KEPT_LINES: Final = 40


@click.group()
def modal() -> None:
    """Workers on Modal: deploy them, hand them the bucket's keys."""


@modal.command()
@click.option(
    "--env",
    "stage",
    type=click.Choice(list(_ENVIRONMENTS)),
    help="dev begins at T4, prod at A10. [default: ENVIRONMENT, or dev]",
)
@click.option("--worker", "names", multiple=True, help="Only this one; may be repeated. [default: all]")
@click.option("--json", "as_json", is_flag=True, help="One JSON value a line; Modal's own output on standard error.")
def deploy(*, stage: str | None, names: tuple[str, ...], as_json: bool) -> None:
    """Deploy workers as Modal apps, one a worker and one a stage of a pipeline, into MODAL_ENVIRONMENT."""
    environment = _ENVIRONMENTS[stage] if stage else DeploymentSettings().environment
    chosen = {name: _checked(name, environment) for name in workers_of(names or tuple(catalog.workloads()))}
    _require_modal()
    refused = []
    for name, deployment in chosen.items():
        on = " > ".join(deployment.gpus) or "CPU"
        print_note(f"Deploying {name} as {deployment.app_name} on {on} ({environment}).")
        code = _modal(
            ["deploy", "-m", f"{catalog.worker_package(name)}.app"],
            {"ENVIRONMENT": environment},
            show=print_note if as_json else print_line,
        )
        if code:
            refused.append(name)
        elif as_json:
            print_json({"event": "deployed", "worker": name, "app": deployment.app_name, "gpus": deployment.gpus})
    if refused:
        raise Failure(
            f"Modal did not take {', '.join(refused)}.", code="modal_deploy_failed", hint="Its reason stands above."
        )


@modal.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON value a line; Modal's own output on standard error.")
def secret(*, as_json: bool) -> None:
    """Make or replace the Modal secret with the bucket's place and keys, from S3_* or B2_* variables."""
    bucket = as_environment(None, S3Settings())
    _require_modal()
    # A file and not arguments: those are for all the machine to see.
    with tempfile.TemporaryDirectory() as folder:
        values = Path(folder) / "values.json"
        values.touch(mode=0o600)
        values.write_text(json.dumps(bucket))
        code = _modal(["secret", "create", SECRET, "--force", "--from-json", str(values)], {}, show=print_note)
    if code:
        raise Failure(f"Modal did not take {SECRET}.", code="modal_secret_failed", hint="Its reason stands above.")
    if as_json:
        print_json({"event": "secret_stored", "secret": SECRET, "keys": sorted(bucket)})
    else:
        print_line(
            f"Modal keeps the bucket's place and keys as {SECRET}. Workers read it when their next container starts."
        )


def workers_of(names: Sequence[str]) -> list[str]:
    """Name what is deployed for these workloads, each once: for a pipeline, which has no worker, its stages."""
    known = catalog.workloads()
    found: list[str] = []
    for name in names:
        whole = known.get(name)
        found += [stage.work for stage in whole.stages] if whole and whole.kind == "pipeline" else [name]
    return list(dict.fromkeys(found))


def _checked(name: str, environment: Environment) -> Deployment:
    """Work out what a worker asks for, and whether it can be deployed, before anything is sent.

    Raises:
        Failure: there is no such worker, it has no app, or one of its GPUs has no such name.
    """
    try:
        deployment = Deployment.of(catalog.workload(name), environment)
    except SaccadeError as error:
        raise Failure(f"{name}: {error.message}", code=error.code, hint=error.hint, exit_code=USAGE) from error
    package = catalog.worker_package(name)
    if importlib.util.find_spec(f"{package}.app") is None:
        hint = "modal_workers/lap_compare/app.py is one to begin from."
        raise Failure(f"{package} has no app.py to deploy.", code="worker_has_no_app", hint=hint)
    return deployment


def _require_modal() -> None:
    require_modal_client()
    if not constraints().exists():
        text = "Workers are deployed from a checkout of the repository: their versions stand in constraints.txt."
        raise Failure(text, code="no_checkout", hint="git clone it, then run this command in there.")


def _modal(arguments: Sequence[str], variables: dict[str, str], *, show: Callable[[str], None]) -> int:
    """Run Modal's command, show what it says line by line, and give its exit code.

    Raises:
        Failure: it has no token, or the bucket's secret is not there: the next worker would fare no better.
    """
    last: deque[str] = deque(maxlen=_KEPT_LINES)
    with subprocess.Popen(
        [sys.executable, "-m", "modal", *arguments],
        cwd=ROOT,
        env=child_environment() | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout
        for line in process.stdout:
            last.append(line)
            show(line.rstrip("\n"))
    said = "".join(last)
    if process.returncode and _NO_TOKEN.search(said):
        hint = "`modal token new`, or `modal token set`, or MODAL_TOKEN_ID and MODAL_TOKEN_SECRET."
        raise Failure("Modal does not know who you are.", code="modal_token_missing", hint=hint)
    if process.returncode and SECRET in said:
        hint = "With S3_ENDPOINT_URL, S3_BUCKET and the keys set (or B2_*): `saccade modal secret`."
        raise Failure(f"Modal has no complete secret {SECRET}.", code="modal_secret_missing", hint=hint)
    return process.returncode
