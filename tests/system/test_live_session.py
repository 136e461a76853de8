"""Kill -9 of any process while a robot streams: the session goes on from its last chunk, each frame has one verdict.

The watching worker's model is the list of what it accepted, so that whatever is lost, done twice or done otherwise
shows. ``make test`` runs a few rounds, ``make soak`` many; ``--seed`` runs the rounds of a failure again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator

import pytest
from saccade_robot import Session, open_session
from saccade_robot.errors import RobotClientError

from tests.system.chaos import WAIT_S, Killer, System, running
from tests.system.live_record import Record, check_chunk, check_events, check_verdicts, read_record
from tests.system.live_robot import Robot, SessionClient

#: The worker every other time: what it holds in memory is what can be lost.
VICTIMS = ("services.gateway", "worker", "nats-server", "worker", "services.dispatcher", "worker", "services.notifier")
#: Of one session; its job may be tried four times.
KILLS = 2
PARAMS = {"service_s": 0.02, "chunk_frames": 7}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running(tmp_path_factory.mktemp("live")) as system:
        yield system


def kill(system: System, desk: SessionClient, victim: str, delay_s: float, context: str) -> int:
    """Kill one process in mid-session, wait until frames are accepted again, and give how many workers died."""
    killer = Killer(system, victim, delay_s)
    attempt = desk.look()["job"]["attempt"]
    killer.start().join(timeout=30)
    assert killer.killed, f"{context}: nothing was killed"
    by_worker = int(victim == "worker")
    desk.until(lambda seen: seen["job"]["attempt"] >= attempt + by_worker, f"{context}: {victim}, another attempt")
    before = desk.look()["frames"]["accepted"]
    desk.until(lambda seen: seen["frames"]["accepted"] > before + 3, f"{context}: {victim}, and on it goes")
    return by_worker


def opened(system: System) -> Session:
    """Open a session; the gateway may have been killed just before, and is starting."""
    end_s = time.monotonic() + WAIT_S
    while True:
        try:
            return open_session(system.url, workload="watching", params=PARAMS)
        except RobotClientError as error:
            if error.code != "starting" or time.monotonic() > end_s:
                raise
            time.sleep(0.2)


def play(
    system: System, victims: list[str], dice: random.Random, context: str
) -> tuple[Record, Robot, SessionClient, int]:
    """Stream into a session while processes die, and stop it."""
    session = opened(system)
    assert session.target.nats is not None, "the robot streams by NATS"
    desk, died = SessionClient(session, WAIT_S), 0
    with Robot(session) as robot:
        desk.until(lambda seen: seen["frames"]["accepted"] > 2, f"{context}: the first frames")
        for victim in victims:
            died += kill(system, desk, victim, dice.uniform(0.0, 0.8), context)
    desk.stop()
    ended = desk.until(lambda seen: seen["state"] in ("stopped", "failed"), f"{context}: the end")
    assert (ended["state"], ended["reason"]) == ("stopped", "asked"), f"{context}: {ended}"
    record = asyncio.run(read_record(system, session.id))
    assert ended["frames"] == record.told[-1].model_dump(), f"{context}: {ended['frames']}"
    return record, robot, desk, died


@pytest.mark.soak
@pytest.mark.timeout(3600)  # a soak is long; each wait in it has a limit of its own
def test_a_session_outlives_whatever_is_killed(system: System, seed: int, soak_runs: int) -> None:
    dice = random.Random(seed)
    # A few rounds do not come to all: each time others are the first.
    first = dice.randrange(len(VICTIMS))
    for number in range(max(1, soak_runs // 6)):
        victims = [VICTIMS[(first + number * KILLS + place) % len(VICTIMS)] for place in range(KILLS)]
        context = f"--seed {seed}: run {number}, {' and '.join(victims)} killed"
        began_s = time.monotonic()
        record, robot, desk, died = play(system, victims, dice, context)
        assert robot.stats is not None
        check_verdicts(record, context)
        result = record.of_session[-1].data
        check_chunk(record, desk.notes(f"chunk_{result['chunks']:04d}.json"), context)
        check_events(record, died + 1, context)
        stored = {source: {seq for name, seq in record.frames if name == source} for source in ("camera", "webcam")}
        assert set(robot.received) <= stored["webcam"], f"{context}: the gateway said 202 and has not stored it"
        if "nats-server" not in victims:
            assert len(stored["camera"]) == robot.stats.frames_sent, f"{context}: {robot.stats}"
            assert len(set(record.joints)) == robot.stats.sent, f"{context}: {robot.stats}"
        took_s = time.monotonic() - began_s
        print(f"{context}: {len(record.acks)} frames, {len(record.accepted)} accepted, {took_s:.1f} s")
