"""``saccade restore``: a new system of a backup; verified before it begins, and read back if asked."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import click
from nats.aio.client import Client

from cli.backups.audited_act import RESTORE, audited, end_intent_of_backup
from cli.backups.backup import shown
from cli.backups.backup_folder import SYSTEM_FILES, BackupFolder, BackupManifest, StreamBackup, chunks_of
from cli.backups.bucket_copy import Buckets, check_objects, open_buckets, restore_objects
from cli.backups.read_back import read_back
from cli.embedded.programs import users_file
from cli.embedded.servers import Servers, require_fresh, servers_of_environment, servers_to_fill
from cli.failure import Failure
from cli.history.access import Access, open_client
from cli.operators.operator_bus import by_option, change
from cli.output import print_json, print_line, print_note
from cli.settings import CommandSettings
from contracts.audit import Attribution
from contracts.streams import EVENTS, LEASES, STREAMS
from kit.bus.connection import declare
from kit.bus.jetstream_api import StreamMissing, request, stream_info
from kit.bus.lineage import metadata_that_keeps_the_epoch, position_of_stream
from kit.bus.stream_copies import restore_stream

#: In the metadata of a stream until the whole restore is done: what an interrupted one has left is known by it.
_RESTORING: Final = "saccade.restoring"
_SEGMENT: Final = re.compile(r"archive/.*/([0-9]+)-([0-9]+)\.")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--verify", is_flag=True, help="Read everything back afterwards and compare it with the backup.")
@click.option("--dry-run", is_flag=True, help="Only verify the backup.")
@click.option(
    "--newest",
    is_flag=True,
    help="Nothing was stored after this backup, for example because the system was stopped before it: keep the epoch.",
)
@click.option("--why", default="restore", show_default=True, help="The reason, for the audit log.")
@by_option
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="New folder of an embedded system. [default: SACCADE_DATA or ./.saccade; with NATS_URL, none]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def restore(
    *,
    folder: Path,
    verify: bool,
    dry_run: bool,
    newest: bool,
    why: str,
    by: str,
    data: Path | None,
    as_json: bool,
) -> None:
    """Make a new system of a backup.

    It is an embedded one, or with NATS_URL one on an empty NATS and bucket. FOLDER is verified first.
    """
    backup = BackupFolder(folder)
    manifest = backup.verify()
    found = shown(manifest)
    if not dry_run:
        attribution = Attribution.model_validate(change(why, by))
        found |= asyncio.run(_restore(backup, manifest, data, attribution, verify=verify, newest=newest))
    if as_json:
        print_json(found)
        return
    print_line(f"The backup is whole: events up to {manifest.last_sequence}, {manifest.object_count} objects.")
    if dry_run:
        return
    kept = "the epoch is kept" if found["epoch_kept"] else "cursors of later events get one gap"
    print_line(f"Restored{' and read back' if verify else ''}; {kept}.")
    if found["data"]:
        print_line(f"Start it with: saccade up --data {found['data']}")
    else:
        print_line("Restart nats-server, so that it knows the newest ids of events again; then start the services.")


async def _restore(
    backup: BackupFolder,
    manifest: BackupManifest,
    data: Path | None,
    attribution: Attribution,
    *,
    verify: bool,
    newest: bool,
) -> dict[str, Any]:
    async with _empty_system(backup, manifest, data) as access:
        assert access.servers.s3
        async with open_buckets(access.servers.s3) as buckets:
            for bucket in buckets.all:
                await bucket.create()
            if newest:
                await _require_newest(buckets, manifest)
            entries = list(backup.objects(manifest))
            if manifest.objects == "listed":
                await check_objects(buckets, entries, read=False)
            for stream in manifest.streams:
                await _restore_stream(access, backup, stream, newest=newest)
            await end_intent_of_backup(access.client, manifest.id)
            details = {"made_at": manifest.made_at.isoformat(), "last_sequence": manifest.last_sequence}
            async with audited(access.client, manifest.id, RESTORE, attribution, details) as outcome:
                if manifest.objects == "copied":
                    await restore_objects(buckets, backup, entries)
                if verify:
                    for stream in manifest.streams:
                        await read_back(access.client, backup, stream)
                    await check_objects(buckets, entries, read=True)
                await _finish(access, manifest)
                lineage = (await position_of_stream(access.client, EVENTS.name)).lineage
                outcome |= {"epoch": lineage.current.id, "read_back": verify}
    return {
        "data": str(data or CommandSettings().data) if access.servers.folder else None,
        "epoch": outcome["epoch"],
        "epoch_kept": newest,
        "read_back": verify,
    }


@contextlib.asynccontextmanager
async def _empty_system(backup: BackupFolder, manifest: BackupManifest, data: Path | None) -> AsyncIterator[Access]:
    """Yield a bus and a bucket with nothing in them; a folder of them appears when the block has ended well.

    Raises:
        Failure: there is something in them.
    """
    named = servers_of_environment() if data is None else None
    if named is not None:
        async with open_client(named.nats) as client:
            await _require_empty(client, named)
            yield Access(client, named)
        return
    folder = data or CommandSettings().data
    require_fresh(folder)
    part = folder.with_name(f"{folder.name}.restoring")
    shutil.rmtree(part, ignore_errors=True)  # of a restore that was interrupted
    try:
        part.mkdir(mode=0o700, parents=True)
        _restore_credentials(backup, manifest, part)
        async with servers_to_fill(part, print_note) as servers, open_client(servers.nats) as client:
            yield Access(client, servers)
        if folder.exists():
            folder.rmdir()
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _restore_credentials(backup: BackupFolder, manifest: BackupManifest, folder: Path) -> None:
    users = users_file(folder)
    users.parent.mkdir(mode=0o700)
    for file in manifest.system:
        source = backup.file(file.path)
        assert source.parent.name == SYSTEM_FILES
        shutil.copy2(source, users if source.name == users.name else folder / source.name)


async def _require_empty(client: Client, servers: Servers) -> None:
    """Check that no stream has ever had a message; delete those that are empty.

    Raises:
        Failure: one has, a service runs, or nothing says where the bucket is.
    """
    if servers.s3 is None:
        raise Failure(
            "Nothing says where the bucket is.",
            code="setting_invalid",
            hint="Set S3_ENDPOINT_URL and the other variables of the services.",
        )
    present: list[str] = []
    for stream in STREAMS:
        try:
            info = await stream_info(client, stream.name)
        except StreamMissing:
            continue
        left = _RESTORING in (info["config"].get("metadata") or {})
        if info["state"]["last_seq"] and not left:
            running = stream == LEASES and info["state"]["messages"]
            raise Failure(
                f"NATS is not empty: stream {stream.name} has been written to.",
                code="system_not_empty",
                hint="Stop the services first." if running else "Restore into a NATS without data.",
            )
        present.append(stream.name)
    for name in present:
        await request(client, f"STREAM.DELETE.{name}", {})


async def _require_newest(buckets: Buckets, manifest: BackupManifest) -> None:
    """Check that the archive in the bucket has no later events than the backup.

    Raises:
        Failure: it has.
    """
    archived = max((int(found[2]) for key in await buckets.keys() if (found := _SEGMENT.match(key))), default=0)
    if archived > manifest.last_sequence:
        raise Failure(
            f"The archive has events up to {archived}; the backup ends at {manifest.last_sequence}.",
            code="backup_older",
            hint="Leave out --newest: cursors of the later events then get one gap.",
        )


async def _restore_stream(access: Access, backup: BackupFolder, stream: StreamBackup, *, newest: bool) -> None:
    metadata = dict(stream.config.get("metadata") or {})
    if newest:
        metadata = metadata_that_keeps_the_epoch(metadata)
    config = stream.config | {
        "metadata": metadata | {_RESTORING: "true"},
        "num_replicas": access.servers.nats.replicas,
    }
    chunks = chunks_of(backup.file(stream.file.path))
    await restore_stream(access.client, config, stream.state, chunks)


async def _finish(access: Access, manifest: BackupManifest) -> None:
    """Remove the marks, and write the epoch that every service would take otherwise."""
    for stream in manifest.streams:
        config = (await stream_info(access.client, stream.name))["config"]
        metadata = {name: value for name, value in config["metadata"].items() if name != _RESTORING}
        answer = await request(access.client, f"STREAM.UPDATE.{stream.name}", config | {"metadata": metadata})
        if "error" in answer:
            raise Failure(
                f"NATS refused stream {stream.name}: {answer['error'].get('description')}.", code="bus_unavailable"
            )
    await declare(access.client, access.servers.nats.replicas)
