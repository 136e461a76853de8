"""``saccade rules``: which uploads start which jobs."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click
from saccade_client import Client, RuleTrialView, RuleView, TriedJob

from cli.command_hints import command_hint
from cli.connection import open_client, server_options
from cli.failure import USAGE, Failure
from cli.jobs.events import parse_since
from cli.output import format_time, print_json, print_line, print_note, print_table
from cli.rules.rule_options import rule_fields, rule_options
from contracts.ids import is_id

#: File names of a job that a dry run shows; the others are counted.
_NAMES_SHOWN: Final = 4


@click.group()
def rules() -> None:
    """Start jobs by uploads.

    A rule says which uploads start which job: docs/rules.md.
    """


@rules.command("list")
@server_options
def list_all(url: str | None, as_json: bool) -> None:
    """List your rules, newest first."""
    with open_client(url) as client:
        found = list(client.rules.all())
    if as_json:
        for rule in found:
            print_json(rule.model_dump(mode="json"))
    elif found:
        rows = [
            (
                rule.id,
                rule.name,
                _state(rule),
                match_text(rule.match),
                group_text(rule.group),
                rule.workload,
                _today(rule),
            )
            for rule in found
        ]
        print_table(("RULE", "NAME", "STATE", "UPLOADS", "GROUP", "WORKLOAD", "TODAY"), rows)
    else:
        print_line("No rules.")


@rules.command()
@click.argument("rule", metavar="RULE")
@server_options
def show(rule: str, url: str | None, as_json: bool) -> None:
    """Show one rule. RULE is its id or its name."""
    with open_client(url) as client:
        found = find_rule(client, rule)
    _show(found, as_json=as_json)


@rules.command()
@click.argument("workload", required=False)
@rule_options
@click.option("--disabled", is_flag=True, help="Create it switched off.")
@server_options
def create(*, workload: str | None, disabled: bool, url: str | None, as_json: bool, **options: Any) -> None:
    """Create a rule: uploads that match start a job of WORKLOAD.

    For example: saccade rules create lap_compare --group-by lap --needs 2 --order filename
    """
    fields = _new(workload, options) | ({"enabled": False} if disabled else {})
    with open_client(url) as client:
        made = client.rules.create(**fields)
    _show(made, as_json=as_json)


@rules.command()
@click.argument("rule", metavar="RULE")
@click.option("--workload", help="Submit jobs of this workload.")
@rule_options
@server_options
def update(*, rule: str, workload: str | None, url: str | None, as_json: bool, **options: Any) -> None:
    """Change a rule. What is not given stays."""
    with open_client(url) as client:
        found = find_rule(client, rule)
        changes = _changes(found, workload, options)
        if not changes:
            raise Failure(
                "There is nothing to change.", code="usage", hint="--help shows the options.", exit_code=USAGE
            )
        changed = client.rules.change(found.id, **changes)
    _show(changed, as_json=as_json)


@rules.command()
@click.argument("rule", metavar="RULE")
@server_options
def enable(rule: str, url: str | None, as_json: bool) -> None:
    """Apply a rule to uploads that come from now on."""
    _switch(rule, url, as_json=as_json, enabled=True)


@rules.command()
@click.argument("rule", metavar="RULE")
@server_options
def disable(rule: str, url: str | None, as_json: bool) -> None:
    """Apply a rule no more, until it is enabled again."""
    _switch(rule, url, as_json=as_json, enabled=False)


@rules.command()
@click.argument("rule", metavar="RULE")
@server_options
def delete(rule: str, url: str | None, as_json: bool) -> None:
    """Delete a rule. Its jobs stay."""
    with open_client(url) as client:
        found = find_rule(client, rule)
        client.rules.delete(found.id)
    if as_json:
        print_json({"id": found.id, "deleted": True})
    else:
        print_line(f"Deleted {found.id} ({found.name}).")


@rules.command("try")
@click.argument("rule", metavar="RULE|WORKLOAD")
@rule_options
@click.option("--since", help="Only uploads since 15m, 2h or 7d ago, or a time (RFC 3339).")
@click.option("--limit", type=click.IntRange(1, 1000), default=200, show_default=True, help="How many uploads.")
@server_options
def try_rule(*, rule: str, since: str | None, limit: int, url: str | None, as_json: bool, **options: Any) -> None:
    """Show what a rule would have done with your uploads.

    RULE is the id or name of a rule, with changes if you give any, or a workload for a new rule. Nothing is stored.
    """
    if since is not None:
        since = _moment(since)
    with open_client(url) as client:
        known = _find(client, rule)
        if known is None:
            trial = client.rules.check(**_new(rule, options), since=since, limit=limit)
        else:
            changes = _changes(known, None, options)
            trial = client.rules.check_change(known.id, since=since, limit=limit, **changes)
    if as_json:
        print_json(trial.model_dump(mode="json"))
    else:
        _show_trial(trial)


def find_rule(client: Client, text: str) -> RuleView:
    """Return the rule with this id or name.

    Raises:
        Failure: there is none, or several have this name.
        ClientError: the server refused.
    """
    found = _find(client, text)
    if found is None:
        hint = command_hint("rule_not_found", "")
        raise Failure(f"There is no rule {text}.", code="rule_not_found", hint=hint)
    return found


def match_text(match: dict[str, Any]) -> str:
    """Return a rule's condition in words."""
    parts = [str(match[name]) for name in ("media", "filename") if match.get(name)]
    parts += [f"{key}={pattern}" for key, pattern in (match.get("metadata") or {}).items()]
    for name, sign in (("minimum_bytes", "≥"), ("maximum_bytes", "≤")):
        if match.get(name) is not None:
            parts.append(f"{sign} {match[name]} bytes")
    return ", ".join(parts) or "all"


def group_text(group: dict[str, Any] | None) -> str:
    """Return how a rule groups uploads, in words; empty for one upload a job."""
    if not group:
        return ""
    parts = [f"{group['needs']} uploads" if group.get("needs") else f"until quiet for {group['quiet_s']:g} s"]
    if group.get("by"):
        parts.append(f"by {str(group['by']).removeprefix('metadata.')}")
    if group.get("minimum", 1) > 1:
        parts.append(f"at least {group['minimum']}")
    return ", ".join(parts)


def _find(client: Client, text: str) -> RuleView | None:
    if is_id(text, "rul"):
        return client.rules.get(text)
    named = list(itertools.islice((rule for rule in client.rules.all() if rule.name == text), 2))
    if len(named) > 1:
        raise Failure(f"Several rules are named {text}.", code="ambiguous", hint="Give the id: saccade rules list")
    return named[0] if named else None


def _new(workload: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a new rule.

    Raises:
        Failure: there is no workload.
    """
    fields = rule_fields(options)
    if workload is not None:
        fields["workload"] = workload
    if "workload" not in fields:
        raise Failure("Name a workload.", code="usage", hint="`saccade workloads` lists them.", exit_code=USAGE)
    return {"name": fields["workload"]} | fields


def _changes(known: RuleView, workload: str | None, options: dict[str, Any]) -> dict[str, Any]:
    fields = known.model_dump(mode="json")
    if workload is not None and workload != known.workload:
        fields["params"] = {}
    return rule_fields(options, fields) | ({"workload": workload} if workload else {})


def _switch(rule: str, url: str | None, *, as_json: bool, enabled: bool) -> None:
    with open_client(url) as client:
        changed = client.rules.change(find_rule(client, rule).id, enabled=enabled)
    if as_json:
        print_json(changed.model_dump(mode="json"))
    else:
        print_line(f"{changed.id} ({changed.name}) is {_state(changed)}.")


def _show(rule: RuleView, *, as_json: bool) -> None:
    if as_json:
        print_json(rule.model_dump(mode="json"))
        return
    skipped = rule.last_skipped or {}
    error = skipped.get("error") or {}
    lines = {
        "rule": rule.id,
        "name": rule.name,
        "state": _state(rule),
        "uploads": match_text(rule.match),
        "group": _full_group_text(rule.group),
        "workload": rule.workload,
        "inputs": ", ".join(rule.inputs),
        "params": ", ".join(f"{name}={value}" for name, value in rule.params.items()),
        "gpu": rule.gpu or "",
        "max cost": "" if rule.max_cost_usd is None else f"${rule.max_cost_usd:g} a job",
        "metadata": ", ".join(f"{name}={value}" for name, value in rule.metadata.items()),
        "webhook": rule.webhook_url or "",
        "jobs today": _today(rule),
        "last job": rule.last_job or "",
        "skipped": f"{format_time(skipped.get('at'))}: {error.get('message')} ({error.get('code')})" if skipped else "",
        "hint": command_hint(str(error.get("code")), str(error.get("hint", ""))) if skipped else "",
        "created": format_time(rule.created_at),
        "changed": format_time(rule.updated_at) if rule.updated_at != rule.created_at else "",
        "made by": rule.made_by or "",
    }
    for name, text in lines.items():
        if text:
            print_line(f"{name:<10} {text}")


def _show_trial(trial: RuleTrialView) -> None:
    print_line(f"{trial.matched} of {trial.considered} uploads match.")
    rows = [(_outcome(job), _names(job), job.group or "", _reason(job)) for job in trial.jobs]
    if rows:
        print_table(("WOULD BE", "UPLOADS", "GROUP", "WHY"), rows)
    count = sum(job.outcome == "submitted" for job in trial.jobs)
    if count:
        seconds, usd = float(trial.estimate.get("seconds", 0)), float(trial.estimate.get("usd", 0))
        print_line(f"{count} jobs of {trial.workload}, each about {seconds:.0f} s and ${usd:.4f}.")
    print_note("Nothing was stored.")


def _moment(text: str) -> str:
    """Return a time (RFC 3339), given one or 15m, 2h or 7d."""
    seconds = parse_since(text)
    return (datetime.now(UTC) - timedelta(seconds=int(seconds))).isoformat() if seconds.isdigit() else text


def _outcome(job: TriedJob) -> str:
    return {"submitted": "a job"}.get(job.outcome, job.outcome)


def _names(job: TriedJob) -> str:
    names = [str(upload.get("filename", "")) for uploads in job.inputs.values() for upload in uploads]
    if len(names) <= _NAMES_SHOWN:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMES_SHOWN])} and {len(names) - _NAMES_SHOWN} more"


def _reason(job: TriedJob) -> str:
    return f"{job.error.message} ({job.error.code})" if job.error else ""


def _full_group_text(group: dict[str, Any] | None) -> str:
    text = group_text(group)
    return f"{text}, in order of {str((group or {})['order']).removeprefix('metadata.')}" if text else ""


def _today(rule: RuleView) -> str:
    return f"{rule.jobs_today}" + (f" of {rule.jobs_per_day}" if rule.jobs_per_day is not None else "")


def _state(rule: RuleView) -> str:
    return "enabled" if rule.enabled else "disabled"
