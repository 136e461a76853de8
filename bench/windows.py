"""Benchmark of windows and backups: export, redaction, opening, backup and restore, as their users see them.

    python -m bench.windows --stories 1400

A story is an upload and a job, 8 events. Each command is its own process; "opened" is the time until a client has the
whole list of the window's newest jobs and the last event by its original's cursor. Canaries: a text of its own in every
field of every event type, searched for in the redacted file, compressed and decompressed.
"""

from __future__ import annotations

from bench.needs import needs

needs("nats-server", "rclone")

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from cli.history.redaction import Redactor
from contracts.events.base import EVENT_CLASSES
from kit.bus.event_store import EventStore
from kit.bus.lineage import position_of_stream
from kit.bus.stream_copies import restore_stream
from kit.history.event_lines import HistoryEvent
from kit.history.nats_archive import ArchiveBounds, ArchivedMessage, encode_archive
from kit.history.segments import SegmentFile, encode_segment
from kit.settings import as_environment
from tests.harness.history.event_samples import Sampler, numbered_texts
from tests.harness.history.stories import stored_stories, story
from tests.harness.servers.embedded import EmbeddedNats, EmbeddedS3
from tests.system.embedded import command, environment, up


def measured(what: str, act: Callable[[], Any]) -> Any:
    """Print the time of an act, and the CPU time of the processes that it started and waited for."""
    began, cpu_before_s = time.perf_counter(), children_cpu_s()
    found = act()
    seconds = time.perf_counter() - began
    print(f"| {what} | {seconds:.1f} | {children_cpu_s() - cpu_before_s:.1f} |")
    return found


def children_cpu_s() -> float:
    """Return the CPU time of all processes that were started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(variables: dict[str, str], *words: str | Path) -> dict[str, Any]:
    done = subprocess.run(
        command(*map(str, words), "--json"), env=environment(**variables), capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


async def fill(nats: EmbeddedNats, stories: int) -> tuple[str, int, int]:
    """Store stories by a restore, which is faster than to publish them; return epoch, last sequence and jobs."""
    messages = [
        message for number in range(stories) for message in story("local", ends=("succeeded", "failed")[number % 2])
    ]
    now_ns = time.time_ns() - len(messages) * 1_000_000
    archived = [
        ArchivedMessage(number, message.subject, now_ns + number * 1_000_000, message.body, {"Nats-Msg-Id": message.id})
        for number, message in enumerate(messages, start=1)
    ]
    async with stored_stories(nats.settings, []) as store:
        info = json.loads((await store.client.request("$JS.API.STREAM.INFO.EVENTS", b"")).data)
        await store.client.request("$JS.API.STREAM.DELETE.EVENTS", b"")
        bounds = ArchiveBounds(1, len(archived), 1000 * len(archived), len(archived))
        await restore_stream(store.client, info["config"], bounds.state(), encode_archive(bounds, archived))
        epoch = (await position_of_stream(store.client, "EVENTS")).lineage.current.id
        await EventStore(store.client).batch(0, size=1)
    return epoch, len(archived), stories


def opened(file: Path, folder: Path, epoch: str, last: int) -> None:
    """Open a window and wait until a client has its jobs and its last event."""
    began, cpu_before_s = time.perf_counter(), children_cpu_s()
    with up(folder, "--from", str(file)) as system:
        url = system.ready()["url"]
        jobs = httpx.get(f"{url}/v1/jobs", params={"limit": 50}, timeout=30).json()["data"]
        assert jobs
        headers = {"Last-Event-ID": f"{epoch}.{last - 1}"}
        with httpx.stream("GET", f"{url}/v1/events", headers=headers, timeout=30) as response:
            assert any(line == f"id: {epoch}.{last}" for line in response.iter_lines())
        seconds = time.perf_counter() - began
        system.stop()
    cpu_s = children_cpu_s() - cpu_before_s
    what = "`saccade up --from`, until a client has jobs and the last event; CPU until its stop"
    print(f"| {what} | {seconds:.1f} | {cpu_s:.1f} |")


def canaries(rounds: int) -> None:
    """Redact every event type with a text of its own in every field, and search for these texts."""
    redactor, sampler = Redactor(), Sampler(numbered_texts("canary"))
    kinds = [kind for _ in range(rounds) for kind in sorted(EVENT_CLASSES)]
    events = []
    for number, kind in enumerate(kinds, start=1):
        subject, body = redactor.event(*sampler.event(kind, sampler.text("tenant")))
        events.append(HistoryEvent(number, subject, "2026-11-23T07:00:00Z", f"evt_{number}", body))
    data = encode_segment(events, stream="EVENTS", epoch="e", first=1, last=len(events)).data
    written = data + b"".join(event.body + event.subject.encode() for event in SegmentFile(data).events())
    found = sum(text.encode() in written for text in sampler.texts)
    print(f"\n{len(sampler.texts)} canaries in {len(events)} events of {len(EVENT_CLASSES)} types: {found} found")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stories", type=int, default=1400)
    parser.add_argument("--rounds", type=int, default=4)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in ("nats", "s3"):
            (folder / name).mkdir()
        with EmbeddedNats(folder / "nats") as nats, EmbeddedS3(folder / "s3") as s3:
            epoch, last, jobs = asyncio.run(fill(nats, asked.stories))
            print(f"{last} events of {jobs} jobs, load {os.getloadavg()[0]:.1f}\n\n| | s | CPU s |\n|---|---|---|")
            there = as_environment(nats.settings, s3.settings)
            plain, hidden = folder / "plain", folder / "redacted"
            made = measured("`events export`", lambda: run(there, "events", "export", plain))
            redacted = measured("`events export --redact`", lambda: run(there, "events", "export", hidden, "--redact"))
            measured("`events verify`", lambda: run({}, "events", "verify", plain))
            measured("`backup`", lambda: run(there, "backup", folder / "backup"))
        restored = folder / "restored"
        measured("`restore --verify`", lambda: run({}, "restore", folder / "backup", "--data", restored, "--verify"))
        opened(plain, folder / "window", epoch, last)
        print(f"\n{made['bytes'] / 1e3:.0f} kB, redacted {redacted['bytes'] / 1e3:.0f} kB")
    canaries(asked.rounds)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
