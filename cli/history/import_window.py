"""``saccade events import``: a data folder whose stream of events is the window of a file, with its cursors."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from cli.embedded.imported_window import ImportedWindow
from cli.embedded.servers import require_fresh, servers_to_fill
from cli.failure import USAGE, Failure
from cli.history.access import open_client
from cli.history.files import read_whole
from cli.output import display_path, print_json, print_line, print_note
from contracts.events.base import CONTENT_TYPE
from contracts.streams import EVENTS
from kit.bus.connection import stream_config
from kit.bus.jetstream_api import request
from kit.bus.lineage import EPOCHS_KEY, Epoch, Lineage
from kit.bus.stream_copies import CopyFailed, restore_stream
from kit.history.manifest import SegmentManifest
from kit.history.nats_archive import ArchiveBounds, ArchivedMessage, encode_archive, nanoseconds
from kit.history.segments import SegmentFile

#: What the server stores of an event besides its subject and bytes, for its estimate of the space that it needs.
_OVERHEAD_BYTES: Final = 200


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder that does not exist yet.")
@click.option("--tenant", help="Tenant whose jobs are shown. [default: the one with most events]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def import_window(*, file: Path, data: Path, tenant: str | None, as_json: bool) -> None:
    """Make a data folder of FILE, which `saccade up --data FOLDER` shows.

    Sequences, times and cursors are those of the original. Nothing in it is worked on, and no webhook is sent.
    """
    window = import_file(file, data, tenant)
    if as_json:
        print_json({"data": str(data)} | window.model_dump(mode="json"))
        return
    print_line(f"{window.events} events of {len(window.tenants)} tenants are in {display_path(data.resolve())}.")
    print_line(f"Show them, as tenant {window.tenant}, with: saccade up --data {data}")


def import_file(file: Path, data: Path, tenant: str | None) -> ImportedWindow:
    """Verify a file, and make a data folder of it that is marked as an imported window.

    Raises:
        Failure: the file is damaged, the tenant is not in it, or the folder is not new.
    """
    segment, _ = read_whole(file)
    manifest = segment.manifest
    window = ImportedWindow(
        file=file.name,
        complete=False,
        tenants=manifest.tenants,
        tenant=_tenant(manifest, tenant),
        first=manifest.first,
        last=manifest.last,
        events=manifest.events,
        redacted=manifest.export is not None and manifest.export.redacted,
    )
    require_fresh(data)
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        window.save(data)
        asyncio.run(_store(segment, data))
    except BaseException:
        shutil.rmtree(data, ignore_errors=True)  # it was empty: what is there now is ours
        raise
    complete = window.model_copy(update={"complete": True})
    complete.save(data)
    return complete


def _tenant(manifest: SegmentManifest, asked: str | None) -> str:
    """Return the tenant that is shown.

    Raises:
        Failure: there is no event, or none of this tenant.
    """
    if manifest.stream != EVENTS.name or not manifest.tenants:
        raise Failure("The file holds no events of tenants.", code="window_empty", hint="Export another window.")
    if asked is not None and asked not in manifest.tenants:
        raise Failure(
            f"--tenant {asked}: the file has no events of this tenant.",
            code="usage",
            hint=f"It has those of: {', '.join(manifest.tenants)}",
            exit_code=USAGE,
        )
    if len(manifest.tenants) > 1 and asked is None:
        print_note(f"The file has events of {len(manifest.tenants)} tenants; choose one with --tenant.")
    return asked or max(manifest.tenants, key=lambda name: manifest.tenants[name])


async def _store(segment: SegmentFile, data: Path) -> None:
    async with servers_to_fill(data, print_note) as servers, open_client(servers.nats) as client:
        manifest = segment.manifest
        config = imported_config(manifest)
        bounds = ArchiveBounds(
            first=manifest.first,
            last=manifest.last,
            bytes=sum(len(message.body) + _OVERHEAD_BYTES for message in _messages(segment)),
            messages=manifest.events,
        )
        state = await restore_stream(client, config, bounds.state(), encode_archive(bounds, _messages(segment)))
        stored = (state["first_seq"], state["last_seq"], state["messages"])
        if stored[1:] != (manifest.last, manifest.events):
            raise CopyFailed(f"NATS stored other events than the file has: {stored}")
        # Nobody can add an event, not even a service that does not know that this is a window.
        sealed = await request(client, f"STREAM.UPDATE.{EVENTS.name}", config | {"sealed": True})
        if "error" in sealed:
            raise CopyFailed(f"NATS could not seal the stream: {sealed['error'].get('description')}")


def imported_config(manifest: SegmentManifest) -> dict[str, Any]:
    """Return the configuration of the stream of an imported window: it keeps everything, and the epochs."""
    facts = manifest.export.epochs if manifest.export else ()
    epochs = tuple(Epoch(fact.id, fact.first, fact.until) for fact in facts) or (Epoch(manifest.epoch),)
    return stream_config(EVENTS, 1) | {"max_age": 0, "metadata": {EPOCHS_KEY: str(Lineage(epochs))}}


def _messages(segment: SegmentFile) -> Iterator[ArchivedMessage]:
    for event in segment.events():
        headers = {"Nats-Msg-Id": event.id, "Content-Type": CONTENT_TYPE} if event.id else {}
        yield ArchivedMessage(event.sequence, event.subject, nanoseconds(event.timestamp), event.body, headers)
