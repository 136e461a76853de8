"""``saccade audit``: who had what done and why, and whether the log is whole."""

from __future__ import annotations

import re
from pathlib import Path

import click
from nats.aio.client import Client
from pydantic import BaseModel

from cli.failure import USAGE, Failure
from cli.operators.operator_bus import data_option, run
from cli.output import format_time, print_json, print_line, print_note, print_table
from contracts.audit import AuditRecord, ChainFault, ChainVerifier, to_json
from contracts.streams import OPS
from kit.bus.event_store import EventStore


class _Log(BaseModel, arbitrary_types_allowed=True):
    """The log as it was read and verified."""

    records: list[AuditRecord]
    #: Hash of each record, by its sequence.
    hashes: dict[int, str]
    verifier: ChainVerifier


@click.group(invoke_without_command=True)
@click.option("--tenant", help="Only records of this tenant; _system for those of the whole system.")
@click.option("--request", help="Only records of this request.")
@click.option("-n", "--last", type=click.IntRange(min=1), default=50, show_default=True, help="Newest records shown.")
@data_option
@click.pass_context
def audit(
    context: click.Context,
    *,
    tenant: str | None,
    request: str | None,
    last: int,
    data: Path | None,
    as_json: bool,
) -> None:
    """Show who had what done, and why.

    Each act has two records: an intent and an outcome.
    """
    if context.invoked_subcommand is not None:
        return
    log = run(data, _read)
    chosen = [
        record
        for record in log.records
        if tenant in (None, record.tenant) and request in (None, record.data.request_id)
    ][-last:]
    if as_json:
        for record in chosen:
            print_json(to_json(record))
    elif chosen:
        print_table(("RECORD", "TIME", "WHAT", "OF", "BY", "WHY"), map(_row, chosen))
    else:
        print_line("No records.")
    if log.verifier.faults:
        print_note("The chain of the log is broken: `saccade audit verify` says where.")


@audit.command()
@click.option("--head", help="SEQUENCE:HASH of an earlier verification: checks that this record is still the same.")
@data_option
def verify(head: str | None, data: Path | None, as_json: bool) -> None:
    """Verify the chain of hashes; exit code 1 if a record was changed or removed.

    The log cannot tell by itself that its newest records are missing: keep the printed head elsewhere, and give it to
    the next verification with --head.
    """
    log = run(data, _read)
    faults = [*log.verifier.faults, *([_head_fault(log, head)] if head and _head_fault(log, head) else [])]
    found = {
        "records": log.verifier.records,
        "head": f"{log.verifier.head_sequence}:{log.verifier.head_hash}",
        "faults": [{"sequence": fault.sequence, "problem": fault.problem} for fault in faults if fault],
        "open_intents": [to_json(record) for record in log.verifier.open_intents.values()],
    }
    if as_json:
        print_json(found)
    else:
        print_line(f"{found['records']} records, head {found['head']}")
        for record in log.verifier.open_intents.values():
            print_line(f"record {record.sequence}: {record.noun}.{record.verb} has no outcome yet")
    if faults:
        first = faults[0]
        assert first
        more = f" ({len(faults)} faults in all)" if len(faults) > 1 else ""
        raise Failure(
            f"The audit log is broken at record {first.sequence}: {first.problem}{more}",
            code="audit_broken",
            hint="Compare it with a backup of the stream OPS.",
        )
    if not as_json:
        print_line("Whole: every record follows the one before it.")


def _head_fault(log: _Log, head: str) -> ChainFault | None:
    if not (found := re.fullmatch(r"([0-9]{1,18}):([0-9a-f]{64})", head)):
        raise Failure(f"--head {head}: write SEQUENCE:HASH.", code="usage", exit_code=USAGE)
    sequence, digest = int(found[1]), found[2]
    if sequence and log.hashes.get(sequence) != digest:
        return ChainFault(sequence, "it is not the record that --head names, or is gone")
    return None


async def _read(client: Client) -> _Log:
    verifier = ChainVerifier()
    records: list[AuditRecord] = []
    hashes: dict[int, str] = {}
    async for stored in EventStore(client, OPS.name).history(0):
        if record := verifier.add(stored.sequence, stored.subject, stored.body):
            records.append(record)
        hashes[stored.sequence] = verifier.head_hash
    return _Log(records=records, hashes=hashes, verifier=verifier)


def _row(record: AuditRecord) -> tuple[str, ...]:
    of = record.subject_id if record.tenant == "_system" else f"{record.tenant}/{record.subject_id}"
    what = f"{record.noun}.{record.verb}"
    return str(record.sequence), format_time(record.time.isoformat()), what, of, record.data.by, record.data.why
