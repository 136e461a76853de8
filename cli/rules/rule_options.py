"""Options that describe a rule, and the fields of the API that they stand for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from cli.failure import USAGE, Failure
from cli.jobs.submission import parse_params

#: Options of a rule's condition and of its group, by field.
_MATCH: Final = ("media", "filename", "minimum_bytes", "maximum_bytes")
_GROUP: Final = ("needs", "quiet_s", "minimum", "order")
_PLAIN: Final = ("name", "priority", "max_cost_usd", "gpu", "webhook_url", "jobs_per_day")
#: What orders and groups uploads besides their metadata.
_OWN_FIELDS: Final = frozenset({"filename", "completed_at"})

_OPTIONS: Final = (
    click.option("--file", "file", metavar="FILE", help="Read the rule from this JSON file; options take precedence."),
    click.option("--name", help="A name for yourself. [default: the workload's]"),
    click.option("--media", type=click.Choice(["video", "image", "archive"]), help="Only files of this kind."),
    click.option("--filename", metavar="PATTERN", help="Only files with such a name: '*.mp4'."),
    click.option("--match", "matches", multiple=True, metavar="KEY=PATTERN", help="Only uploads with such metadata."),
    click.option("--min-bytes", "minimum_bytes", type=click.IntRange(0), help="Only files of at least this size."),
    click.option("--max-bytes", "maximum_bytes", type=click.IntRange(1), help="Only files of at most this size."),
    click.option("--group-by", metavar="KEY", help="Uploads with the same value of this metadata belong together."),
    click.option("--needs", type=click.IntRange(2), help="Submit a job when so many uploads have come."),
    click.option("--quiet", "quiet_s", type=click.FloatRange(1), help="Submit a job when none came for these seconds."),
    click.option("--minimum", type=click.IntRange(1), help="With --quiet: skip groups with fewer uploads."),
    click.option("--order", metavar="KEY", help="Order of a group: filename, completed_at or a key of the metadata."),
    click.option("--no-group", is_flag=True, help="Each upload is a job of its own."),
    click.option("--input", "inputs", multiple=True, help="Input that the uploads fill; repeat it in their order."),
    click.option("--param", "-p", "pairs", multiple=True, metavar="KEY=VALUE", help="A parameter of the workload."),
    click.option("--job-metadata", multiple=True, metavar="KEY=VALUE", help="Metadata of each job."),
    click.option("--priority", type=int, help="Of the jobs."),
    click.option("--max-cost-usd", type=click.FloatRange(0, min_open=True), help="Stop each job at this cost."),
    click.option("--gpu", help="Run the jobs only on this GPU."),
    click.option("--webhook-url", help="Send the events of the jobs there."),
    click.option("--jobs-per-day", type=click.IntRange(1), help="Most jobs in a day (UTC)."),
)


def rule_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that describe a rule."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def parse_pairs(pairs: Sequence[str], option: str) -> dict[str, str]:
    """Parse ``key=value`` pairs of texts.

    Raises:
        Failure: a pair has no ``=``.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (equals and name):
            raise Failure(f"{option} {pair} is not KEY=VALUE.", code="usage", exit_code=USAGE)
        found[name] = value
    return found


def rule_fields(options: Mapping[str, Any], known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the fields of the API that options stand for; parts of ``known``'s match and group stay.

    Raises:
        Failure: the file cannot be read, or an option is not as its help says.
    """
    fields = _read(options["file"]) if options["file"] else {}
    known = dict(known or {}) | fields
    fields |= {name: options[name] for name in _PLAIN if options[name] is not None}
    match = {name: options[name] for name in _MATCH if options[name] is not None}
    if options["matches"]:
        match["metadata"] = parse_pairs(options["matches"], "--match")
    if match:
        fields["match"] = dict(known.get("match") or {}) | match
    group = {name: options[name] for name in _GROUP if options[name] is not None}
    if options["group_by"]:
        group["by"] = _field(options["group_by"])
    if "order" in group and group["order"] not in _OWN_FIELDS:
        group["order"] = _field(group["order"])
    if options["no_group"]:
        if group:
            raise Failure("--no-group excludes the options of a group.", code="usage", exit_code=USAGE)
        fields["group"] = None
    elif group:
        kept = dict(known.get("group") or {})
        if kept and ("needs" in group or "quiet_s" in group):
            kept |= {"needs": None, "quiet_s": None}
        fields["group"] = kept | group
    if options["inputs"]:
        fields["inputs"] = list(options["inputs"])
    if options["pairs"]:
        fields["params"] = dict(known.get("params") or {}) | parse_params(options["pairs"])
    if options["job_metadata"]:
        fields["metadata"] = parse_pairs(options["job_metadata"], "--job-metadata")
    return fields


def _field(key: str) -> str:
    """Return the field of an upload that a key of its metadata is."""
    return key if key.startswith("metadata.") else f"metadata.{key}"


def _read(name: str) -> dict[str, Any]:
    path = Path(name)
    if not path.is_file():
        raise Failure(f"{path} does not exist.", code="no_such_file", hint="Name a file with a JSON object.")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Failure(f"{path} is not JSON ({error}).", code="usage", exit_code=USAGE) from error
    if not isinstance(fields, dict):
        raise Failure(f"{path} is not a JSON object.", code="usage", exit_code=USAGE)
    return fields
