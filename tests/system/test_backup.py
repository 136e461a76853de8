"""A backup restored on an empty machine, in real processes: clients resume, webhooks are not repeated, work goes on."""

from __future__ import annotations

import json
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
from saccade_client import Client

from tests.harness.servers.embedded import HOST, free_port
from tests.system.embedded import run, up, wait_until


class Receiver(ThreadingHTTPServer):
    """Takes webhooks and remembers their ids."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        ids = self.ids

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                ids.append(self.headers["webhook-id"])
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Write no log: the test reads the ids."""

        super().__init__((HOST, free_port()), Handler)


@contextmanager
def receiving() -> Iterator[Receiver]:
    with Receiver() as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        yield receiver
        receiver.shutdown()


def events_after(url: str, cursor: str | None, count: int) -> list[tuple[str, str]]:
    """Return cursor and bytes of so many durable events after a cursor, as an SSE client gets them."""
    found: list[tuple[str, str]] = []
    resumed = {"Last-Event-ID": cursor} if cursor else {}
    query = "" if cursor else "?since=3600"
    with httpx.stream("GET", f"{url}/v1/events{query}", headers=resumed, timeout=30) as response:
        block: dict[str, str] = {}
        for line in response.iter_lines():
            name, _, value = line.partition(": ")
            if line:
                block[name] = value
                continue
            assert block.get("event") != "gap", block
            if "id" in block and "data" in block:
                found.append((block["id"], block["data"]))
            block = {}
            if len(found) == count:
                return found
    raise AssertionError(f"the stream ended after {len(found)} events")


def test_a_system_goes_on_from_its_backup_on_an_empty_machine(tmp_path: Path) -> None:
    first, second, backup = tmp_path / "first", tmp_path / "second", tmp_path / "backup"
    with receiving() as receiver:
        with up(first, WORKER_CATALOG="tests.workers") as system:
            url = system.ready()["url"]
            with Client(url) as client:
                hook = f"http://{HOST}:{receiver.server_port}/"
                client.webhooks.create(hook, types=["job.*"])
                held = run("pause", "hasty", "--why", "a move", "--data", str(first), cwd=tmp_path)
                assert held.returncode == 0, held.stderr
                done = client.submit("scripted", {}, {"script": ["stage first", "save answer.bin 512"]})
                waiting = client.submit("hasty", {}, {"script": ["stage first"]})
                wait_until(lambda: client.job(done.id).state in ("succeeded", "failed"), "the job ends")
                wait_until(lambda: client.job(waiting.id).state == "queued", "the other one waits")
                artifacts = [artifact.name for artifact in client.artifacts(done.id).artifacts]
                count = sum(event.cursor is not None for event in client.events(since=3600, follow=False))
            seen = events_after(url, None, count)
            of_jobs = [json.loads(data)["id"] for _, data in seen if json.loads(data)["type"].startswith("job.")]
            wait_until(lambda: set(of_jobs) <= set(receiver.ids), "the webhooks of all events are delivered")
            assert system.stop() == 0
        made = run("backup", str(backup), "--data", str(first), "--why", "a move", "--json", cwd=tmp_path)
        assert made.returncode == 0, made.stderr
        shutil.rmtree(first)
        restored = run("restore", str(backup), "--data", str(second), "--newest", "--verify", "--json", cwd=tmp_path)
        assert restored.returncode == 0, restored.stderr
        assert json.loads(restored.stdout)["read_back"]
        delivered = Counter(receiver.ids)
        with up(second, WORKER_CATALOG="tests.workers") as system:
            url = system.ready()["url"]
            middle = len(seen) // 2
            assert events_after(url, seen[middle][0], len(seen) - middle - 1) == seen[middle + 1 :]
            with Client(url) as client:
                assert client.job(done.id).state == "succeeded"
                assert [artifact.name for artifact in client.artifacts(done.id).artifacts] == artifacts
                wait_until(lambda: "a move" in str(client.job(waiting.id).message), "the operator's order still holds")
                resumed = run("resume", "hasty", "--why", "moved", "--data", str(second), cwd=tmp_path)
                assert resumed.returncode == 0, resumed.stderr
                wait_until(lambda: client.job(waiting.id).state in ("succeeded", "failed"), "the job that waited ends")
                ended = [
                    str(event.id) for event in client.events(waiting.id, follow=False) if event.type == "job.succeeded"
                ]
            assert len(ended) == 1
            wait_until(lambda: set(ended) <= set(receiver.ids), "the webhook of its end is delivered")
            audited = run("audit", "verify", "--data", str(second), "--json", cwd=tmp_path)
            assert json.loads(audited.stdout.splitlines()[0])["faults"] == []
            assert system.stop() == 0
        repeated = {
            found: number for found, number in Counter(receiver.ids).items() if number > delivered.get(found, 1)
        }
        assert repeated == {}
