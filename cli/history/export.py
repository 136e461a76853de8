"""``saccade events export``: a window of the stream of events in one file, redacted if asked."""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import click

from cli.failure import USAGE, Failure
from cli.history.access import Access, open_access
from cli.history.files import described, require_new, span, write_whole
from cli.history.redaction import Redactor
from cli.history.window import EventSelection, Window, story_of, window_of
from cli.jobs.events import check_types
from cli.output import print_json, print_line
from contracts.ids import is_id, is_job_id
from contracts.streams import EVENTS
from kit.bus.event_store import EventStore
from kit.bus.lineage import Lineage, position_of_stream
from kit.history.archive_access import open_archive
from kit.history.event_lines import HistoryEvent
from kit.history.history import History
from kit.history.manifest import EpochFacts, ExportFacts
from kit.history.segments import Segment, SegmentBuilder
from kit.settings import ArchiveSettings
from modal_workers.catalog import workloads

#: Events that are added to the file at a time.
_BATCH: Final = 1000


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--since", help="From 90s, 15m, 2h or 7d ago, a time (RFC 3339), or after a cursor. [default: the first]")
@click.option("--until", help="Up to a time or a cursor, which is included. [default: now]")
@click.option("--type", "types", multiple=True, help="Only events of this type, for example job.failed or job.*.")
@click.option("--job", "story", help="Only events of this job, pipeline or session, from its first.")
@click.option("--redact", is_flag=True, help="Replace names, addresses, metadata and free text by hashes.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder of the embedded system. [default: SACCADE_DATA or ./.saccade; with NATS_URL, none]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def export(
    *,
    file: Path,
    since: str | None,
    until: str | None,
    types: tuple[str, ...],
    story: str | None,
    redact: bool,
    data: Path | None,
    as_json: bool,
) -> None:
    """Write a window of the events of all tenants to FILE.

    `saccade up --from FILE` opens it, `saccade events verify FILE` checks it.
    """
    check_types(types)
    if story is not None and not (is_job_id(story) or is_id(story, "ses")):
        raise Failure(f"--job {story} is not the id of a job or session.", code="usage", exit_code=USAGE)
    require_new(file)
    selection = EventSelection(types, story and story_of(story))
    redactor = Redactor(known_words()) if redact else None

    async def act() -> Segment:
        async with open_access(data) as access:
            return await _segment(access, selection, redactor, (since, until, story))

    segment = asyncio.run(act())
    write_whole(file, segment.data)
    found = described(segment.data, segment.manifest)
    if as_json:
        print_json({"file": str(file)} | found)
        return
    print_line(f"{file}: {span(segment.manifest)}")
    print_line(f"{found['bytes']} bytes, SHA-256 {found['sha256']}")
    if redact:
        print_line("Redacted: names, addresses, metadata and free text are hashes with a key that nobody has.")


def known_words() -> set[str]:
    """Return the names of the workloads, stages, inputs and parameters that every installation of this version has."""
    words: set[str] = set()
    for name, declared in workloads().items():
        words |= {name, *(given.name for given in declared.inputs), *(stage.name for stage in declared.stages)}
        words |= set(declared.params.model_fields)
    return words


async def _segment(
    access: Access,
    selection: EventSelection,
    redactor: Redactor | None,
    points: tuple[str | None, str | None, str | None],
) -> Segment:
    """Read the window and return its file.

    Raises:
        Failure: the window is empty.
        SaccadeError: BUS_UNAVAILABLE, HISTORY_EXPIRED.
    """
    async with open_archive(access.servers.s3, ArchiveSettings()) as archive:
        history = History(EventStore(access.client, EVENTS.name), archive)
        return await _read(history, access, selection, redactor, points)


async def _read(
    history: History,
    access: Access,
    selection: EventSelection,
    redactor: Redactor | None,
    points: tuple[str | None, str | None, str | None],
) -> Segment:
    position = await position_of_stream(access.client, EVENTS.name)
    window = await window_of(history, position, *points)
    builder = SegmentBuilder(
        EVENTS.name,
        position.lineage.current.id,
        window.after + 1,
        export=_facts(position.lineage, selection, redacted=redactor is not None),
    )
    found = 0
    async for batch in _batches(history, window, selection):
        found += len(batch)
        builder.add(batch if redactor is None else [_redacted(redactor, event) for event in batch])
    if not found:
        raise Failure(
            "No event in this window is of the given types and job.",
            code="window_empty",
            hint="docs/events.md says which types are stored; progress is not.",
        )
    return builder.finish(window.until)


async def _batches(history: History, window: Window, selection: EventSelection) -> AsyncIterator[list[HistoryEvent]]:
    batch: list[HistoryEvent] = []
    async for event in history.read(window.after, window.until, selection.subjects):
        if selection.has(event):
            batch.append(event)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    yield batch


def _redacted(redactor: Redactor, event: HistoryEvent) -> HistoryEvent:
    subject, body = redactor.event(event.subject, event.body)
    return HistoryEvent(event.sequence, subject, event.timestamp, redactor.event_id(event.id), body)


def _facts(lineage: Lineage, selection: EventSelection, *, redacted: bool) -> ExportFacts:
    return ExportFacts(
        saccade=importlib.metadata.version("saccade-server"),
        subjects=selection.described(),
        redacted=redacted,
        epochs=tuple(EpochFacts(id=epoch.id, first=epoch.first, until=epoch.until) for epoch in lineage.epochs),
    )
