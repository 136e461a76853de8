"""``saccade backup``: the streams and the bucket of a system in a folder, while it runs or while it is stopped."""

from __future__ import annotations

import asyncio
import importlib.metadata
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import click
from nats.aio.client import Client

from cli.backups.audited_act import BACKUP, audited
from cli.backups.backup_folder import STREAM_FILES, SYSTEM_FILES, BackupFile, BackupFolder, BackupManifest, StreamBackup
from cli.backups.backup_part import open_part
from cli.backups.bucket_copy import open_buckets, save_objects
from cli.embedded.programs import users_file
from cli.failure import Failure
from cli.history.access import Access, open_access
from cli.operators.operator_bus import by_option, change
from cli.output import print_json, print_line
from contracts.audit import Attribution
from contracts.ids import new_id
from contracts.streams import DELIVERIES, EVENTS, STREAMS, WEBHOOKS
from kit.bus.stream_copies import open_snapshot, stream_state

#: Files of an embedded system that nothing else can be made of: the key of the webhooks' secrets above all.
_SECRETS: Final = "secrets.json"
#: Deliveries after the events they are of: what was delivered of these is recorded in the copy, so nothing is repeated,
#: and records of later events name an epoch that the restored stream tells apart (docs/adr/0033).
_LAST: Final = (EVENTS.name, DELIVERIES.name, WEBHOOKS.name)
_ORDER: Final = (*(stream.name for stream in STREAMS if stream.in_backup and stream.name not in _LAST), *_LAST)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--objects",
    type=click.Choice(["copy", "list"]),
    default="copy",
    show_default=True,
    help="Copy the bucket's objects into the folder, or only list them, for a bucket that is copied by other means.",
)
@click.option("--why", default="backup", show_default=True, help="The reason, for the audit log.")
@by_option
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder of the embedded system. [default: SACCADE_DATA or ./.saccade; with NATS_URL, none]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def backup(
    *, folder: Path, objects: Literal["copy", "list"], why: str, by: str, data: Path | None, as_json: bool
) -> None:
    """Copy streams and bucket into a new folder.

    FOLDER is secret: it holds everything, and of an embedded system the keys too.
    """
    if folder.exists():
        raise Failure(f"{folder} exists.", code="file_exists", hint="Name a folder that does not exist yet.")
    attribution = Attribution.model_validate(change(why, by))
    manifest = asyncio.run(_make(data, folder, attribution, copied=objects == "copy"))
    if as_json:
        print_json({"folder": str(folder)} | shown(manifest))
        return
    print_line(f"{folder}: {len(manifest.streams)} streams, events up to {manifest.last_sequence}")
    what = "objects" if manifest.objects == "copied" else "objects are listed, not copied:"
    print_line(f"{manifest.object_count} {what} {manifest.object_bytes} bytes. Keep the folder secret.")


def shown(manifest: BackupManifest) -> dict[str, Any]:
    """Return what is shown of a backup."""
    counts = {stream.name: stream.state["messages"] for stream in manifest.streams}
    fields = manifest.model_dump(mode="json", include={"id", "saccade", "made_at", "object_count", "object_bytes"})
    return fields | {"objects": manifest.objects, "messages": counts, "last_sequence": manifest.last_sequence}


async def _make(data: Path | None, folder: Path, attribution: Attribution, *, copied: bool) -> BackupManifest:
    async with open_access(data) as access:
        if access.servers.s3 is None:
            raise Failure(
                "Nothing says where the bucket is.",
                code="setting_invalid",
                hint="Set S3_ENDPOINT_URL and the other variables of the services.",
            )
        with open_part(folder) as part:
            return await _recorded(access, BackupFolder(part), attribution, copied=copied)


async def _recorded(access: Access, folder: BackupFolder, attribution: Attribution, *, copied: bool) -> BackupManifest:
    """Make the backup between its two records in the audit log."""
    backup_id = new_id("bak")
    details: dict[str, Any] = {"objects": "copied" if copied else "listed"}
    async with audited(access.client, backup_id, BACKUP, attribution, details) as outcome:
        manifest = await _copy(access, folder, backup_id, copied=copied)
        outcome |= {"last_sequence": manifest.last_sequence, "object_count": manifest.object_count}
    return manifest


async def _copy(access: Access, folder: BackupFolder, backup_id: str, *, copied: bool) -> BackupManifest:
    assert access.servers.s3
    made_at = datetime.now(UTC)
    (folder.path / STREAM_FILES).mkdir()
    streams = [
        await _copy_stream(access.client, name, folder)
        for name in _ORDER
        if await stream_state(access.client, name) is not None
    ]
    if EVENTS.name not in {stream.name for stream in streams}:
        raise Failure("There is no stream of events.", code="nothing_to_operate", hint="Start the services once.")
    async with open_buckets(access.servers.s3) as buckets:
        entries, listed = await save_objects(buckets, folder, copied=copied)
    manifest = BackupManifest(
        id=backup_id,
        saccade=importlib.metadata.version("saccade-server"),
        made_at=made_at,
        streams=tuple(streams),
        objects="copied" if copied else "listed",
        object_count=len(entries),
        object_bytes=sum(entry.bytes for entry in entries),
        object_list=folder.describe(listed),
        system=_copy_system(access.servers.folder, folder),
    )
    folder.save(manifest)
    return manifest


async def _copy_stream(client: Client, name: str, folder: BackupFolder) -> StreamBackup:
    file = folder.path / STREAM_FILES / f"{name}.s2"
    async with open_snapshot(client, name) as snapshot:
        with file.open("wb") as out:
            async for chunk in snapshot.chunks:
                out.write(chunk)
    return StreamBackup(name=name, file=folder.describe(file), config=snapshot.config, state=snapshot.state)


def _copy_system(data: Path | None, folder: BackupFolder) -> tuple[BackupFile, ...]:
    """Copy the credentials of an embedded system."""
    if data is None:
        return ()
    target = folder.path / SYSTEM_FILES
    target.mkdir()
    copied = []
    for source in (data / _SECRETS, users_file(data)):
        if source.exists():
            shutil.copy2(source, target / source.name)
            copied.append(folder.describe(target / source.name))
    return tuple(copied)
