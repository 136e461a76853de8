"""``saccade doctor``: look at everything that Saccade needs, one line each, with the fix."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import click

from cli.connection import url_option
from cli.doctor import modal
from cli.doctor.bucket import check_bucket
from cli.doctor.bus import check_bus
from cli.doctor.configuration import check_configuration
from cli.doctor.disk import check_disk
from cli.doctor.ports import check_ports
from cli.doctor.programs import check_programs
from cli.doctor.report_line import ReportLine
from cli.doctor.run import DEADLINE_S, Check, run_checks
from cli.doctor.services import check_services
from cli.doctor.system import System, find_system
from cli.doctor.webhooks import check_webhooks
from cli.failure import REFUSED
from cli.output import print_json, print_line

#: Several requests one after the other, each of which may be tried again.
_SLOW_S = 2 * DEADLINE_S


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Folder of the embedded system. [default: ./.saccade]")
@click.option(
    "--env-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Environment file of compose: look at the containers from this machine.",
)
@click.option("--origin", "origins", multiple=True, help="Web origin whose pages send files; may be repeated.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port that `saccade up` is to have. [default: 8080]")
@click.option("--modal", "on_modal", is_flag=True, help="Look at Modal also where the settings do not name it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value per line.")
@url_option
@click.pass_context
def doctor(
    context: click.Context,
    *,
    data: Path | None,
    env_file: Path | None,
    origins: Sequence[str],
    port: int | None,
    on_modal: bool,
    as_json: bool,
    url: str | None,
) -> None:
    """Check bus, bucket, services, settings and this machine.

    Each line is ok, warn or FAIL, with the fix. Nothing is changed: objects that it writes to the bucket are removed.
    """
    system = find_system(url, data, env_file)
    checks = checks_of(system, env_file=env_file, origins=origins, port=port, on_modal=on_modal)
    counts = asyncio.run(_show(system, checks, as_json=as_json))
    if not as_json:
        print_line(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    context.exit(REFUSED if counts["FAIL"] else 0)


def checks_of(
    system: System, *, env_file: Path | None, origins: Sequence[str], port: int | None, on_modal: bool
) -> list[Check]:
    """Return everything that is looked at."""
    return [
        Check("settings", lambda: check_configuration(system, env_file)),
        Check("programs", lambda: check_programs(system)),
        Check("disk", lambda: check_disk(system)),
        Check("port", lambda: check_ports(system, port)),
        Check("bus", lambda: check_bus(system)),
        Check("bucket", lambda: check_bucket(system, origins), _SLOW_S),
        Check("services", lambda: check_services(system)),
        Check("webhooks", lambda: check_webhooks(system), _SLOW_S),
        Check("modal", lambda: modal.check_modal(system, wanted=on_modal), modal.DEADLINE_S),
    ]


async def _show(system: System, checks: Sequence[Check], *, as_json: bool) -> dict[str, int]:
    """Print what the checks find as soon as it is known, and return how many there are of each outcome."""
    counts = {"ok": 0, "warn": 0, "FAIL": 0}
    secrets = system.secrets
    async for found in run_checks(checks):
        finding: ReportLine = found.without(secrets)
        counts[finding.outcome] += 1
        if as_json:
            print_json(
                {"check": finding.check, "outcome": finding.outcome, "message": finding.says, "fix": finding.fix}
            )
        else:
            print_line(finding.line)
    return counts
