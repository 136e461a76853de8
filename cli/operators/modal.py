"""``saccade modal``: deploy workers and the bucket's secret with Modal's own commands in a child process."""

from __future__ import annotations

import importlib.util
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from cli.embedded.workers_on_modal import require_modal_client
from cli.failure import USAGE, Failure
from cli.operators.modal_import_check import check_imports
from cli.operators.modal_process import ModalProcess
from cli.output import print_json, print_line, print_note
from contracts.errors import SaccadeError
from contracts.gpu_ladder import Environment
from kit.settings import S3Settings, as_environment
from modal_workers import catalog
from modal_workers.deployment import SECRET, Deployment, constraints, deployed_version
from modal_workers.settings import DeploymentSettings

_ENVIRONMENTS: Final[dict[str, Environment]] = {"dev": "development", "prod": "production"}
#: Messages of Modal's client and server.
_NO_TOKEN: Final = re.compile(r"\bToken (missing|validation failed|ID and secret must)")


@click.group()
def modal() -> None:
    """Deploy workers on Modal."""


@modal.command()
@click.option(
    "--env",
    "stage",
    type=click.Choice(list(_ENVIRONMENTS)),
    help="GPU ladder: dev starts at T4, prod at A10. [default: ENVIRONMENT, or dev]",
)
@click.option("--worker", "names", multiple=True, help="Only this worker; may be repeated. [default: all]")
@click.option(
    "--check/--no-check",
    "checks",
    default=True,
    help="Start each worker once and import its modules in the new image first; if that fails, the deployed version "
    "stays. [default: --check]",
)
@click.option(
    "--check-timeout",
    "check_timeout_s",
    type=click.IntRange(1),
    default=900,
    show_default=True,
    metavar="SECONDS",
    help="Longest wait for a worker's container and its imports.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON value per line; Modal's output goes to standard error."
)
def deploy(*, stage: str | None, names: tuple[str, ...], checks: bool, check_timeout_s: int, as_json: bool) -> None:
    """Deploy workers as Modal apps.

    Each worker and each stage of a pipeline becomes one app in MODAL_ENVIRONMENT.
    """
    environment = _ENVIRONMENTS[stage] if stage else DeploymentSettings().environment
    chosen = {name: _deployment_of(name, environment) for name in workers_of(names or tuple(catalog.workloads()))}
    _require_modal()
    refused = []
    with ModalProcess({"ENVIRONMENT": environment}) as process:
        for name, deployment in chosen.items():
            on = " > ".join(deployment.gpus) or "CPU"
            print_note(f"Deploying {name} as {deployment.app_name} on {on} ({environment}).")
            package, show = catalog.worker_package(name), print_note if as_json else print_line
            variables = {"ENVIRONMENT": environment}
            if checks and _code(*check_imports(package, name, variables, show, timeout_s=check_timeout_s)):
                refused.append(name)
                continue
            command = ["deploy", "--tag", deployed_version(), "-m", f"{package}.app"]
            if _code(*process.run(command, show)):
                refused.append(name)
            elif as_json:
                print_json(
                    {
                        "event": "deployed",
                        "worker": name,
                        "app": deployment.app_name,
                        "gpus": deployment.gpus,
                        "version": deployed_version(),
                    }
                )
    if refused:
        raise Failure(
            f"Modal did not deploy {', '.join(refused)}.", code="modal_deploy_failed", hint="See Modal's output above."
        )


@modal.command()
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON value per line; Modal's output goes to standard error."
)
def secret(*, as_json: bool) -> None:
    """Store the bucket's credentials on Modal.

    The address and credentials come from S3_* or B2_* and become a Modal secret.
    """
    bucket = as_environment(None, S3Settings())
    _require_modal()
    # A file, not arguments: every user of the machine sees those.
    with tempfile.TemporaryDirectory() as folder, ModalProcess({}) as process:
        values = Path(folder) / "values.json"
        values.touch(mode=0o600)
        values.write_text(json.dumps(bucket))
        code = _code(*process.run(["secret", "create", SECRET, "--force", "--from-json", str(values)], print_note))
    if code:
        raise Failure(f"Modal did not store {SECRET}.", code="modal_secret_failed", hint="See Modal's output above.")
    if as_json:
        print_json({"event": "secret_stored", "secret": SECRET, "keys": sorted(bucket)})
    else:
        print_line(f"Stored the bucket's address and credentials as {SECRET}. New containers use it.")


def workers_of(names: Sequence[str]) -> list[str]:
    """Return the workers of these workloads, each once; a pipeline has no worker of its own but its stages'."""
    known = catalog.workloads()
    found: list[str] = []
    for name in names:
        whole = known.get(name)
        found += [stage.work for stage in whole.stages] if whole and whole.kind == "pipeline" else [name]
    return list(dict.fromkeys(found))


def _deployment_of(name: str, environment: Environment) -> Deployment:
    """Return a worker's deployment, and check that it can be deployed.

    Raises:
        Failure: there is no such worker, it has no app, or one of its GPUs does not exist.
    """
    try:
        deployment = Deployment.of(catalog.workload(name), environment)
    except SaccadeError as error:
        raise Failure(f"{name}: {error.message}", code=error.code, hint=error.hint, exit_code=USAGE) from error
    package = catalog.worker_package(name)
    if importlib.util.find_spec(f"{package}.app") is None:
        hint = "modal_workers/lap_compare/app.py is an example."
        raise Failure(f"{package} has no app.py to deploy.", code="worker_has_no_app", hint=hint)
    return deployment


def _require_modal() -> None:
    require_modal_client()
    if not constraints().exists():
        text = "Workers are deployed from a checkout of the repository, with the versions in constraints.txt."
        raise Failure(text, code="no_checkout", hint="Clone the repository and run this command there.")


def _code(code: int, output: str) -> int:
    """Return the exit code of a command of Modal.

    Raises:
        Failure: there is no valid token, or no secret of the bucket: every worker would fail.
    """
    if code and _NO_TOKEN.search(output):
        hint = "Run `modal token new` or `modal token set`, or set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET."
        raise Failure("Modal has no valid token.", code="modal_token_missing", hint=hint)
    if code and SECRET in output:
        hint = "Set S3_ENDPOINT_URL, S3_BUCKET and the keys (or B2_*), then run `saccade modal secret`."
        raise Failure(f"The Modal secret {SECRET} is missing or incomplete.", code="modal_secret_missing", hint=hint)
    return code
