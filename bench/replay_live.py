"""Latency of live webhooks while a replay runs at full speed, and without one, in turns within one run.

    python -m bench.replay_live --into same --rounds 40

A real nats-server that writes every event to disk, the notifier in its own process, the receivers in this process.
Events are published at a steady rate and delivered to one endpoint; the replay goes into the same endpoint, another
endpoint, a sandbox or a stream of server-sent events. Many short rounds with the replay running and paused take turns,
in changing order, so that other load of the machine meets both alike.
"""

from bench.needs import needs

needs("nats-server")

import argparse
import asyncio
import itertools
import json
import os
import random
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from bench.webhooks import BenchReceiver, publish
from contracts.events.base import Message, encode
from contracts.ids import new_id
from kit.bus.connection import connect, declare
from kit.bus.event_store import EventStore
from tests.harness.servers.embedded import HOST, EmbeddedNats
from tests.harness.streams.notifier import NotifierProcess, retrying
from tests.harness.webhooks.delivery import environment

_INTO = ("same", "other", "sandbox", "sse")
_DRAWS = 300
#: Live events for this long after a replay was started, resumed or paused count for neither: both take some requests.
_SETTLED_S = 0.5
#: Latencies of rounds without and with the replay.
Pairs = list[tuple[list[int], list[int]]]


class Receiver:
    """Receiver of one endpoint."""

    def __init__(self) -> None:
        self.latencies_ns: list[int] = []

    async def listen(self) -> str:
        """Start listening and return the URL."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(partial(BenchReceiver, self.latencies_ns, alive=True), HOST, 0)
        return f"http://{HOST}:{self._server.sockets[0].getsockname()[1]}/hook"

    def close(self) -> None:
        """Stop listening."""
        self._server.close()


async def read_frames(http: httpx.AsyncClient, replay_id: str) -> None:
    async with http.stream("GET", f"/v1/replays/{replay_id}/events", timeout=None) as answer:
        async for _ in answer.aiter_bytes():
            continue


async def round_of(store: EventStore, job_id: str, receiver: Receiver, rate: float, seconds: float) -> list[int]:
    """Publish at a steady rate and return the latencies."""
    receiver.latencies_ns.clear()
    loop = asyncio.get_running_loop()
    started, waiting = loop.time(), []
    for number in range(round(rate * seconds)):
        await asyncio.sleep(max(0.0, started + number / rate - loop.time()))
        waiting.append(asyncio.ensure_future(publish(store, job_id)))
    await asyncio.gather(*waiting)
    await asyncio.sleep(0.3)
    return list(receiver.latencies_ns)


def _past(job_id: str) -> Message:
    """Return an event of the history: without a stamp, so that it is no latency."""
    return encode(retrying(), tenant="local", subject_id=job_id, source="/bench")


def percentile(latencies_ns: list[int], share: float) -> float:
    return round(sorted(latencies_ns)[int(len(latencies_ns) * share)] / 1e6, 2)


class LiveBesideReplay:
    """One notifier with a history to replay, and an endpoint that gets live events."""

    def __init__(self, store: EventStore, http: httpx.AsyncClient, arguments: argparse.Namespace) -> None:
        self._store, self._http, self._arguments = store, http, arguments
        self._live, self._other = Receiver(), Receiver()
        self._past, self._job_id = new_id("job"), new_id("job")

    async def publish_history(self) -> None:
        """Publish what is replayed."""
        for start in range(0, self._arguments.history, 200):
            parts = range(start, min(start + 200, self._arguments.history))
            await asyncio.gather(*(self._store.publish(_past(self._past)) for _ in parts))

    async def plan(self, into: str) -> dict[str, Any]:
        """Make the endpoints and plan the replay."""
        endpoint = await self._post("/v1/webhooks", {"url": await self._live.listen()})
        # It gets what is replayed, and no live event.
        second = await self._post("/v1/webhooks", {"url": await self._other.listen(), "types": ["job.retrying"]})
        targets = {
            "same": f"webhook:{endpoint['id']}",
            "other": f"webhook:{second['id']}",
            "sandbox": "sandbox:bench",
            "sse": "sse",
        }
        wanted = {"into": targets[into], "since": "3600", "speed": "max", "subjects": [self._past], "why": "bench"}
        return await self._post("/v1/replays", wanted)

    async def run(self, replay: dict[str, Any], into: str) -> dict[str, Any]:
        """Take turns with the replay paused and running, and return what they took."""
        count, path = replay["plan"]["count"], f"/v1/replays/{replay['id']}"
        await self._round(2)
        rounds: dict[bool, list[list[int]]] = {False: [], True: []}
        replayed, seconds = 0, 0.0
        async with asyncio.TaskGroup() as tasks:
            reading = None
            ran = False
            for number in range(2 * self._arguments.rounds):
                runs = number % 4 in (1, 2)
                if number == 1:
                    await self._post(f"{path}/start", {"expected_count": count, "why": "bench"})
                    if into == "sse":
                        reading = tasks.create_task(read_frames(self._http, replay["id"]))
                elif runs is not ran:
                    await self._post(f"{path}/{'resume' if runs else 'pause'}", {"why": "bench"})
                begun = time.monotonic()
                if runs is not ran:
                    await self._round(_SETTLED_S)
                ran = runs
                rounds[runs].append(await self._round(self._arguments.seconds))
                if runs:
                    seconds += time.monotonic() - begun
                    state = (await self._http.get(path)).json()
                    replayed = state["progress"]["sent"] + state["progress"]["failed"]
            if reading:
                reading.cancel()
        self._live.close()
        self._other.close()
        return {"state": state["state"], "replayed_per_s": round(replayed / seconds, 1)} | compared(rounds)

    async def _round(self, seconds: float) -> list[int]:
        return await round_of(self._store, self._job_id, self._live, self._arguments.rate, seconds)

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self._http.post(path, json=body)
        assert answer.status_code < 300, answer.text
        found: dict[str, Any] = answer.json()
        return found


def compared(rounds: dict[bool, list[list[int]]]) -> dict[str, Any]:
    """Return percentiles of all rounds without and with the replay, and by how much p99 changes.

    Rounds are compared in pairs that followed each other. The interval has 90 % of the changes that chance alone gives
    when pairs are drawn again from those measured; ``noise`` is the same for pairs of rounds without a replay, between
    which nothing changed. ``p99_of_rounds_ms`` are medians: a few rounds in which the machine stood still count little.
    """
    paused, running = (list(itertools.chain.from_iterable(rounds[runs])) for runs in (False, True))
    pairs = list(zip(rounds[False], rounds[True], strict=True))
    unchanged = list(zip(rounds[False][::2], rounds[False][1::2], strict=False))
    medians = [statistics.median(percentile(part, 0.99) for part in rounds[runs]) for runs in (False, True)]
    return {
        "live": [len(paused), len(running)],
        "p50_ms": [percentile(paused, 0.5), percentile(running, 0.5)],
        "p90_ms": [percentile(paused, 0.9), percentile(running, 0.9)],
        "p99_ms": [percentile(paused, 0.99), percentile(running, 0.99)],
        "p99_change_percent": round(change_percent(pairs), 1),
        "p99_change_interval": interval(pairs),
        "p99_noise_interval": interval(unchanged),
        "p99_of_rounds_ms": medians,
    }


def change_percent(pairs: Pairs) -> float:
    """Return by how much p99 of all second rounds is above that of all first ones."""
    before, beside = (list(itertools.chain.from_iterable(part)) for part in zip(*pairs, strict=True))
    return 100 * (percentile(beside, 0.99) / percentile(before, 0.99) - 1)


def interval(pairs: Pairs) -> list[float]:
    """Return between which changes 90 % of those are that other draws of the pairs give."""
    chance = random.Random(1)
    drawn = sorted(change_percent(chance.choices(pairs, k=len(pairs))) for _ in range(_DRAWS))
    return [round(drawn[len(drawn) // 20], 1), round(drawn[-len(drawn) // 20], 1)]


async def measure(nats: EmbeddedNats, arguments: argparse.Namespace, into: str) -> dict[str, Any]:
    client = await connect(nats.settings, "bench")
    await declare(client)
    with NotifierProcess(nats.settings, **environment()) as notifier:
        async with httpx.AsyncClient(base_url=notifier.url, timeout=30) as http:
            bench = LiveBesideReplay(EventStore(client), http, arguments)
            await bench.publish_history()
            measured = await bench.run(await bench.plan(into), into)
    await client.close()
    return {"into": into, "load": round(os.getloadavg()[0], 1)} | measured


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--into", nargs="+", default=list(_INTO), choices=_INTO)
    parser.add_argument("--history", type=int, default=6000, help="events to replay")
    parser.add_argument("--rate", type=float, default=50.0, help="live events per second")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a round")
    parser.add_argument("--rounds", type=int, default=40, help="of each kind")
    arguments = parser.parse_args()
    for into in arguments.into:
        with tempfile.TemporaryDirectory() as folder, EmbeddedNats(Path(folder), sync_always=True) as nats:
            print(json.dumps(asyncio.run(measure(nats, arguments, into))), flush=True)


if __name__ == "__main__":
    main()
