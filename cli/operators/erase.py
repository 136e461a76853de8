"""``saccade erase``: erase a tenant's data, a job or an upload, and show the report."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Final

import click
from saccade_client import Client, ErasureView

from cli.connection import open_client, server_options
from cli.failure import USAGE, Failure
from cli.output import print_json, print_line, print_note, print_table

_LOOK_S: Final = 0.5
_why = click.option(
    "--why", required=True, metavar="TEXT", help="Kept in the audit log for good: name no person in it."
)
_yes = click.option("--yes", is_flag=True, help="Do not ask.")
_tenant = click.option("--tenant", metavar="TENANT", help="For operators: the tenant whose it is.")


@click.group()
def erase() -> None:
    """Erase a tenant's data, a job or an upload.

    What is erased is gone from files, events, archive and views, and cannot be brought back: docs/erasure.md.
    """


@erase.command("tenant")
@click.argument("tenant")
@_why
@_yes
@server_options
def erase_tenant(*, tenant: str, why: str, yes: bool, url: str | None, as_json: bool) -> None:
    """Erase all data of TENANT. Needs a key with the scope operate."""
    _confirm(f"everything of the tenant {tenant}", yes=yes)
    _erase(url, lambda client: client.erasures.tenant(tenant, why=why), as_json=as_json)


@erase.command("job")
@click.argument("job", metavar="ID")
@_why
@_yes
@_tenant
@server_options
def erase_job(*, job: str, why: str, yes: bool, tenant: str | None, url: str | None, as_json: bool) -> None:
    """Erase a job that has ended, with its results."""
    _confirm(f"{job} and its results", yes=yes)
    _erase(url, lambda client: client.erasures.job(job, why=why, tenant=tenant), as_json=as_json)


@erase.command("upload")
@click.argument("upload", metavar="ID")
@click.option("--jobs", "with_jobs", is_flag=True, help="Also erase the jobs that used it.")
@_why
@_yes
@_tenant
@server_options
def erase_upload(
    *, upload: str, with_jobs: bool, why: str, yes: bool, tenant: str | None, url: str | None, as_json: bool
) -> None:
    """Erase an upload: its file, its events and its metadata."""
    _confirm(f"{upload}{' and the jobs that used it' if with_jobs else ''}", yes=yes)

    def ask(client: Client) -> ErasureView:
        return client.erasures.upload(upload, why=why, with_jobs=with_jobs, tenant=tenant)

    _erase(url, ask, as_json=as_json)


@erase.command("show")
@click.argument("erasure", metavar="ID")
@server_options
def show(erasure: str, url: str | None, as_json: bool) -> None:
    """Show an erasure and its report."""
    with open_client(url) as client:
        _show(client.erasures.get(erasure), as_json=as_json)


def _confirm(what: str, *, yes: bool) -> None:
    """Confirm that something is to be erased.

    Raises:
        Failure: nobody can be asked, or the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise Failure("Nobody can be asked.", code="usage", hint="Add --yes.", exit_code=USAGE)
    if not click.confirm(f"Erase {what}? It cannot be brought back.", err=True):
        raise Failure("Nothing was erased.", code="cancelled", hint="", exit_code=1)


def _erase(url: str | None, ask: Callable[[Client], ErasureView], *, as_json: bool) -> None:
    """Request an erasure and wait for its report."""
    with open_client(url) as client:
        found = ask(client)
        if not as_json:
            print_note(f"{found.id} is requested. Ctrl-C ends the waiting alone: `saccade erase show {found.id}`.")
        while found.state != "completed":
            time.sleep(_LOOK_S)
            found = client.erasures.get(found.id)
        _show(found, as_json=as_json)


def _show(found: ErasureView, *, as_json: bool) -> None:
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    report: dict[str, Any] = found.report or {}
    if not report:
        print_line(f"{found.id} waits, or is being carried out.")
        return
    rows = [(name, str(store["removed"]), str(store["remaining"])) for name, store in report["stores"].items()]
    print_table(("STORE", "REMOVED", "REMAINING"), rows)
    for name, reason in report["remains"].items():
        print_line(f"Remains: {name}. {reason}")
    if report["interrupted"]:
        print_line("It was interrupted and repeated; the numbers are those of all attempts together.")
