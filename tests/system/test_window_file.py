"""An exported window opened by ``saccade up --from``: clients resume by the original's cursors, and nothing happens."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from saccade_client import Client

from contracts.events.base import Message
from kit.bus.event_store import StoredEvent
from kit.bus.lineage import position_of_stream
from tests.harness.history.stories import stored_stories, story
from tests.harness.servers.embedded import HOST, EmbeddedNats, free_port
from tests.system.embedded import SystemProcess, command, environment, up


class Original:
    """What the original system has stored, and the file of it."""

    def __init__(self, folder: Path, webhook_port: int) -> None:
        webhook_url = f"http://{HOST}:{webhook_port}/"
        self.stories: list[list[Message]] = [
            story("local", ends=ends, webhook_url=webhook_url) for ends in ("succeeded", "failed", "never") * 4
        ]
        self.file = folder / "window.ndjson.zst"
        self.events: list[StoredEvent] = []
        self.epoch = ""
        (folder / "nats").mkdir()
        with EmbeddedNats(folder / "nats") as nats:
            asyncio.run(self._store(nats))
            words = command("events", "export", str(self.file))
            subprocess.run(words, check=True, env=environment(NATS_URL=nats.url), cwd=folder, timeout=60)

    async def _store(self, nats: EmbeddedNats) -> None:
        async with stored_stories(nats.settings, self.stories) as store:
            self.events = [event async for event in store.history(0)]
            self.epoch = (await position_of_stream(store.client, "EVENTS")).lineage.current.id


@pytest.fixture(scope="module")
def receiver() -> Iterator[socket.socket]:
    """Listen where the jobs' webhooks would go."""
    with socket.create_server((HOST, free_port())) as listening:
        yield listening


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, receiver: socket.socket) -> Original:
    return Original(tmp_path_factory.mktemp("original"), receiver.getsockname()[1])


@pytest.fixture(scope="module")
def window(original: Original, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemProcess]:
    """Open the file as a user does."""
    data = tmp_path_factory.mktemp("window") / "data"
    with up(data, "--from", str(original.file)) as system:
        system.ready()
        yield system
        assert system.stop() == 0


def test_a_client_with_a_cursor_of_the_original_resumes_exactly(original: Original, window: SystemProcess) -> None:
    url = window.said[-1]["url"]
    seen = original.events[10]
    following = original.events[11:]
    headers = {"Last-Event-ID": f"{original.epoch}.{seen.sequence}"}
    blocks: list[tuple[str, str]] = []
    with httpx.stream("GET", f"{url}/v1/events", headers=headers, timeout=20) as response:
        block: dict[str, str] = {}
        for line in response.iter_lines():
            name, _, value = line.partition(": ")
            if name in ("id", "data"):
                block[name] = value
            elif not line and "data" in block and "id" in block:
                blocks.append((block["id"], block["data"]))
                block = {}
            if len(blocks) == len(following):
                break
    assert blocks == [(f"{original.epoch}.{event.sequence}", event.body.decode()) for event in following]


def test_the_jobs_are_shown_as_they_were_and_nothing_is_launched(original: Original, window: SystemProcess) -> None:
    assert "dispatcher" not in window.said[-1]["processes"]
    assert window.said[-1]["window"]["events"] == len(original.events)
    with Client(window.said[-1]["url"]) as client:
        states = [job.state for job in client.jobs()]
    assert {state: states.count(state) for state in states} == {"succeeded": 4, "failed": 4, "retrying": 4}


def test_the_time_machine_answers_as_of_a_cursor_of_the_original(original: Original, window: SystemProcess) -> None:
    started = next(event for event in original.events if event.subject.endswith(".started"))
    job_id = started.subject.split(".")[4]
    answer = httpx.get(
        f"{window.said[-1]['url']}/v1/jobs/{job_id}", params={"at": f"{original.epoch}.{started.sequence}"}, timeout=30
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"] == "running"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/uploads", {"filename": "a.mp4", "content_type": "video/mp4", "size_bytes": 5}),
        ("/v1/jobs", {"workload": "lap_compare", "inputs": {}}),
        ("/v1/sessions", {"workload": "live_splat"}),
    ],
)
def test_nothing_can_be_changed(window: SystemProcess, path: str, body: dict[str, object]) -> None:
    answer = httpx.post(f"{window.said[-1]['url']}{path}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (403, "read_only")


def test_no_webhook_is_sent(window: SystemProcess, receiver: socket.socket) -> None:
    answer = httpx.get(f"{window.said[-1]['url']}/v1/webhooks")
    assert answer.json()["code"] == "webhooks_not_configured"
    receiver.settimeout(0.2)
    with pytest.raises(TimeoutError):
        receiver.accept()


def test_a_folder_whose_import_was_interrupted_is_refused(window: SystemProcess) -> None:
    mark = json.loads((window.data / "imported.json").read_text())
    unfinished = window.data.parent / "unfinished"
    unfinished.mkdir()
    (unfinished / "imported.json").write_text(json.dumps(mark | {"complete": False}))
    with up(unfinished) as refused, pytest.raises(AssertionError, match="import_incomplete"):
        refused.ready()
