"""``saccade budget``: what workers may cost in a day and in a month, and what they have cost."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import click
from saccade_client import BudgetPeriod, BudgetView, SpendingReport

from cli.connection import open_client, server_options
from cli.failure import USAGE, Failure
from cli.output import format_time, print_json, print_line, print_table

_GROUPS: Final = ("day", "workload", "device", "tenant")
_DAY: Final = click.DateTime(["%Y-%m-%d"])


@click.group(invoke_without_command=True)
@server_options
@click.pass_context
def budget(context: click.Context, url: str | None, as_json: bool) -> None:
    """Show, set or remove your budget.

    It limits what your workers may cost in a day and in a month (UTC): docs/budgets.md.
    """
    if context.invoked_subcommand is None:
        _show_current(url, as_json=as_json)


@budget.command()
@server_options
def show(url: str | None, as_json: bool) -> None:
    """Show the limits and their use."""
    _show_current(url, as_json=as_json)


@budget.command("set")
@click.option("--daily", "daily_usd", type=click.FloatRange(min=0), metavar="USD", help="Most in a day (UTC).")
@click.option("--monthly", "monthly_usd", type=click.FloatRange(min=0), metavar="USD", help="Most in a month (UTC).")
@click.option(
    "--warn",
    "warn_percent",
    type=click.FloatRange(min=0, max=100, min_open=True),
    metavar="PERCENT",
    help="Warn when so much of a limit is spent. [default: 80]",
)
@server_options
def set_limits(
    *, daily_usd: float | None, monthly_usd: float | None, warn_percent: float | None, url: str | None, as_json: bool
) -> None:
    """Replace the budget. A limit that you leave out does not hold any more."""
    if daily_usd is None and monthly_usd is None:
        hint = "--daily or --monthly; `saccade budget remove` removes the budget."
        raise Failure("A budget needs a limit.", code="usage", hint=hint, exit_code=USAGE)
    share = None if warn_percent is None else warn_percent / 100
    with open_client(url) as client:
        found = client.budgets.set(daily_usd=daily_usd, monthly_usd=monthly_usd, warn_share=share)
    _show(found, as_json=as_json)


@budget.command()
@server_options
def remove(url: str | None, as_json: bool) -> None:
    """Remove your budget. The operator's limits still hold."""
    with open_client(url) as client:
        client.budgets.remove()
    if as_json:
        print_json({"removed": True})
    else:
        print_line("Removed the budget.")


@budget.command()
@click.option("--since", type=_DAY, metavar="DAY", help="First day (UTC), such as 2026-11-01. [default: 30 days ago]")
@click.option("--until", type=_DAY, metavar="DAY", help="Last day (UTC). [default: today]")
@click.option("--by", type=click.Choice(_GROUPS), default="day", show_default=True, help="What is summed up.")
@click.option("--tenant", help="For operators: only this tenant.")
@server_options
def spent(
    *, since: datetime | None, until: datetime | None, by: str, tenant: str | None, url: str | None, as_json: bool
) -> None:
    """Show what jobs and sessions have cost, beside their estimates."""
    with open_client(url) as client:
        report = client.budgets.spent(since=since and since.date(), until=until and until.date(), tenant=tenant)
    if as_json:
        print_json(report.model_dump(mode="json"))
        return
    print_table((by.upper(), "ATTEMPTS", "HOURS", "ESTIMATED", "SPENT"), _sums(report, by))
    print_line(f"{_usd(report.usd)} from {report.since} to {report.until}.")


def _sums(report: SpendingReport, by: str) -> list[tuple[str, ...]]:
    """Return a row for each value of a field, in the order of the report."""
    sums: dict[str, list[float]] = {}
    for row in report.data:
        figures = sums.setdefault(getattr(row, by), [0.0] * 4)
        for index, value in enumerate((row.attempts, row.seconds, row.estimated_usd, row.usd)):
            figures[index] += value
    return [
        (name, f"{attempts:.0f}", f"{seconds / 3600:.2f}", _usd(estimated), _usd(usd))
        for name, (attempts, seconds, estimated, usd) in sums.items()
    ]


def _show_current(url: str | None, *, as_json: bool) -> None:
    with open_client(url) as client:
        found = client.budgets.get()
    _show(found, as_json=as_json)


def _show(found: BudgetView, *, as_json: bool) -> None:
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    rows = [_row("day", found.day), _row("month", found.month)]
    print_table(("PERIOD", "LIMIT", "SPENT", "RESERVED", "LEFT", "ENDS"), rows)


def _row(name: str, period: BudgetPeriod) -> tuple[str, ...]:
    return (
        name,
        _usd(period.limit_usd),
        _usd(period.spent_usd),
        _usd(period.reserved_usd),
        _usd(period.remaining_usd),
        format_time(period.ends_at),
    )


def _usd(amount: float | None) -> str:
    return "-" if amount is None else f"${amount:.2f}"
