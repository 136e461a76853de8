"""Samples and pictures on a real NATS server: complete, ordered, in radians, with capture times."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import SecretStr
from saccade_robot import NatsTarget, RobotClientError, Scale, Streamer, Target, attach, detach, open_session, target_of

from contracts.telemetry import JointBatch, JointSample
from contracts.worker_rights import session_sender_grant
from kit.auth.bus_token import BusTokenIssuer
from modal_workers.runtime.sessions.frame import read_frame
from modal_workers.runtime.sessions.frame_queue import FrameQueue
from tests.harness.servers.embedded import NatsServer, OperatorNats
from tests.harness.sessions.robot_server import NAMES, SESSION, RobotIngestServer, pose, subjects
from tests.harness.sessions.telemetry_listener import TelemetryListener, counted, until

DEGREES = (Scale(math.pi / 180),) * 6
JPEG = b"\xff\xd8\xff" + bytes(3000)


def nats_target(server: NatsServer) -> Target:
    names = subjects()
    return Target(nats=NatsTarget(server.settings.url, names["joints"], names["frames"], names["clock"]))


def test_every_sample_comes_once_bit_by_bit_and_in_radians(nats_server: NatsServer) -> None:
    with (
        TelemetryListener(nats_server) as heard,
        Streamer(nats_target(nats_server), names=NAMES, scales=DEGREES) as streamer,
    ):
        for number in range(600):
            streamer.offer(pose(number), 1.7e9 + number / 200)
            time.sleep(0.001)
        stats = streamer.close()
    assert (stats.offered, stats.sent, stats.dropped, stats.unconfirmed, stats.waiting) == (600, 600, 0, 0, 0)
    samples = heard.samples()
    assert counted(samples) == list(range(600))
    for number, sample in enumerate(samples):
        assert sample.raw == pose(number)
        assert sample.positions == tuple(math.radians(value) for value in pose(number))
        assert sample.captured_at_s == 1.7e9 + number / 200
    assert {(batch.names, batch.unit) for batch in heard.batches} == {(NAMES, "rad")}
    assert heard.batches[-1].offered == 600


def test_a_robot_without_units_is_sent_as_it_is(nats_server: NatsServer) -> None:
    with TelemetryListener(nats_server) as heard, Streamer(nats_target(nats_server), names=("a", "b")) as streamer:
        streamer.offer([1.5, -2])
        streamer.close()
    (sample,) = heard.samples()
    assert heard.batches[0].unit == "native"
    assert sample == JointSample(sample.seq, sample.captured_at_s, (1.5, -2.0))
    assert abs(sample.captured_at_s - time.time()) < 60


def test_what_cannot_be_a_sample_is_dropped_by_itself(nats_server: NatsServer) -> None:
    offered: list[Any] = [
        (1.0, 2.0),
        (1.0,),
        (1.0, 2.0, 3.0),
        (math.nan, 0.0),
        (math.inf, 0.0),
        ("x", None),
        (3.0, 4.0),
    ]
    with TelemetryListener(nats_server) as heard, Streamer(nats_target(nats_server), names=("a", "b")) as streamer:
        for positions in offered:
            streamer.offer(positions)
        streamer.offer(None)  # type: ignore[arg-type] - a caller's mistake must not stop its arm
        streamer.offer(5)  # type: ignore[arg-type]
        stats = streamer.close()
    assert [sample.positions for sample in heard.samples()] == [(1.0, 2.0), (3.0, 4.0)]
    assert (stats.offered, stats.sent, stats.dropped, stats.errors) == (7, 2, 5, 2)


def test_pictures_come_with_their_number_time_and_camera(nats_server: NatsServer) -> None:
    with (
        TelemetryListener(nats_server) as heard,
        Streamer(nats_target(nats_server), names=(), frame_rate_hz=1000, encode=lambda picture: JPEG + picture) as s,
    ):
        until(lambda: s.stats().route == "nats")
        for number in range(5):
            s.offer_frame([number], "wrist", 1.7e9 + number)
            until(lambda: s.stats().frames_waiting == 0)
        s.offer_frame(b"\x89PNG\r\n\x1a\n" + bytes(10), captured_at_s=1.7e9)
        until(lambda: s.stats().frames_sent + s.stats().frames_dropped == 6)
        stats = s.close()
    # An encoder that is given what it cannot encode raises, and only that picture is lost.
    assert stats.frames_dropped == 5
    assert stats.errors == 5
    ((headers, body),) = heard.frames
    assert headers["Content-Type"] == "image/png"
    assert headers["Frame-Source"] == "camera"
    assert abs(int(headers["Frame-Seq"]) / 1e6 - time.time()) < 60
    assert float(headers["Frame-Captured-At"]) == 1.7e9
    assert body.startswith(b"\x89PNG")


def test_a_session_takes_the_frames_of_a_robot_that_connects_to_it_again(nats_server: NatsServer) -> None:
    with TelemetryListener(nats_server) as heard:
        for sent in range(1, 3):
            with Streamer(nats_target(nats_server), names=(), frame_rate_hz=1000) as streamer:
                until(lambda: streamer.stats().route == "nats")
                for number in range(3):
                    streamer.offer_frame(JPEG + bytes([number]), "wrist", 1.7e9 + 10 * sent + number)
                    until(lambda: streamer.stats().frames_waiting == 0)
                assert streamer.close().frames_sent == 3
        until(lambda: len(heard.frames) == 6)
    queue = FrameQueue(time.time)
    for sequence, (headers, body) in enumerate(heard.frames, start=1):
        queue.put(read_frame(headers, body, sequence=sequence, arrived_at_s=1.7e9))
    assert queue.take_acks()[0] == [], "none is dropped as repeated or late"


def test_arrays_are_encoded_beside_the_loop_and_capped_in_rate(nats_server: NatsServer) -> None:
    numpy, cv2 = pytest.importorskip("numpy"), pytest.importorskip("cv2")
    threads: set[str] = set()
    picture = numpy.zeros((48, 64, 3), numpy.uint8)
    picture[:, :, 0] = 255  # red, as LeRobot orders colours
    with (
        TelemetryListener(nats_server) as heard,
        Streamer(nats_target(nats_server), names=(), frame_rate_hz=10, encode=_watched(threads)) as streamer,
    ):
        until(lambda: streamer.stats().route == "nats")
        for tick in range(90):  # three seconds at 30 Hz by their times
            streamer.offer_frame(picture, "front", 1.7e9 + tick / 30)
            until(lambda: streamer.stats().frames_waiting == 0)
        until(lambda: streamer.stats().frames_sent >= 30)
        stats = streamer.close()
    assert (stats.frames_offered, stats.frames_sent, stats.frames_skipped) == (90, 30, 60)
    numbers = [int(headers["Frame-Seq"]) for headers, _ in heard.frames]
    assert numbers == list(range(numbers[0], numbers[0] + 30))
    blue, green, red = cv2.imdecode(numpy.frombuffer(heard.frames[0][1], numpy.uint8), cv2.IMREAD_COLOR)[20, 20]
    assert red > 200
    assert max(blue, green) < 50
    assert threading.current_thread().name not in threads


def _watched(threads: set[str]) -> Callable[[Any], bytes]:
    from saccade_robot.image_encoding import find_encoder

    encoder = find_encoder()

    def encode(picture: Any) -> bytes:
        threads.add(threading.current_thread().name)
        return encoder(picture)

    return encode


def test_a_picture_that_is_too_large_is_dropped_and_said(
    nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        TelemetryListener(nats_server) as heard,
        Streamer(nats_target(nats_server), names=(), frame_rate_hz=1000) as streamer,
    ):
        until(lambda: streamer.stats().route == "nats")
        streamer.offer_frame(bytes(1024 * 1024), captured_at_s=1.7e9)
        streamer.offer_frame(b"", captured_at_s=1.7e9 + 1)
        until(lambda: streamer.stats().frames_dropped == 2)
    assert heard.frames == []
    assert "reduce its size" in caplog.text


class Arm:
    """A robot by its shape, as LeRobot's SO-101 has it."""

    name = robot_type = "so101_follower"
    id = "black"

    def __init__(self) -> None:
        self.is_connected = False
        self.observed = 0
        self.calibration: dict[str, dict[str, int]] = {}
        self.observation_features: dict[str, Any] = {**{f"{name}.pos": float for name in NAMES}, "wrist": (48, 64, 3)}

        class Config:
            use_degrees = True

        self.config = Config()

    def connect(self, calibrate: bool = True) -> None:  # noqa: ARG002 - it is LeRobot's
        self.is_connected = True
        self.calibration = {name: {"id": 1, "range_min": 0, "range_max": 4095} for name in NAMES}

    def disconnect(self) -> None:
        self.is_connected = False

    def get_observation(self) -> dict[str, Any]:
        if self.observed == 7:
            self.observed += 1
            raise ConnectionError("no status packet")
        positions = {f"{name}.pos": value for name, value in zip(NAMES, pose(self.observed), strict=True)}
        self.observed += 1
        return {**positions, "wrist": JPEG}


@contextmanager
def watched_door(server: NatsServer) -> Iterator[tuple[RobotIngestServer, TelemetryListener]]:
    with RobotIngestServer(server.settings.url) as door, TelemetryListener(server) as heard:
        yield door, heard


def test_an_attached_robot_streams_from_connect_to_disconnect(nats_server: NatsServer) -> None:
    arm = Arm()
    with watched_door(nats_server) as (door, heard):
        attachment = attach(arm, lambda robot: open_session(door.url, "key.secret", robot=robot), stop_at_end=True)
        assert attachment.stats() is None
        assert door.opened == []
        arm.connect(calibrate=False)
        until(lambda: (stats := attachment.stats()) is not None and stats.route == "nats")
        observations, failures = [], []
        for _ in range(20):
            try:
                observations.append(arm.get_observation())
            except ConnectionError as error:
                failures.append(str(error))
        arm.disconnect()
        (opened,) = door.opened
        assert opened["workload"] == "live_splat"
        assert opened["params"]["robot"]["calibration"]["gripper"]["range_max"] == 4095
        assert door.headers[0]["Authorization"] == "Bearer key.secret"
        assert door.stops == 1
    assert len(observations) == 19
    assert failures == ["no status packet"]  # the robot's own errors stay the robot's
    assert [sample.raw for sample in heard.samples()] == [pose(number) for number in range(20) if number != 7]
    gripper = heard.samples()[0].positions[-1]
    assert gripper == pytest.approx(-0.174533 + pose(0)[-1] / 100 * 1.919863)
    # The same picture again is no new one.
    assert [headers["Frame-Source"] for headers, _ in heard.frames] == ["wrist"]


def test_detaching_gives_the_robot_back(nats_server: NatsServer) -> None:
    arm = Arm()
    arm.connect()
    with TelemetryListener(nats_server) as heard:
        attach(arm, nats_target(nats_server), cameras=())
        with pytest.raises(ValueError, match="detach it first"):
            attach(arm, nats_target(nats_server))
        arm.get_observation()
        stats = detach(arm)
        assert stats is not None
        assert stats.sent == 1
        assert detach(arm) is None
        arm.get_observation()
    assert "get_observation" not in vars(arm)
    assert len(heard.samples()) == 1
    assert heard.frames == []


def test_a_robot_whose_observations_cannot_be_streamed_works_all_the_same(nats_server: NatsServer) -> None:
    class Odd(Arm):
        def get_observation(self) -> dict[str, Any]:
            return {"something": "else"}

    class Silent(Arm):
        @property
        def observation_features(self) -> dict[str, Any]:
            raise RuntimeError("not yet")

        @observation_features.setter
        def observation_features(self, value: dict[str, Any]) -> None:
            pass

    for arm in (Odd(), Silent()):
        attachment = attach(arm, nats_target(nats_server))
        arm.connect()
        assert arm.get_observation()
        arm.disconnect()
        assert attachment.streamer is None


SKEW_S = 123.456789


class Clock(TelemetryListener):
    """A worker whose clock is ahead."""

    async def subscribe(self, client: Client) -> None:
        async def tell(message: Msg) -> None:
            await message.respond(b'{"time_s": %r}' % (time.time() + SKEW_S))

        await super().subscribe(client)
        await client.subscribe(subjects()["clock"], cb=tell)


def test_a_picture_has_the_time_at_which_its_camera_took_it(nats_server: NatsServer) -> None:
    class Camera:
        latest_frame: bytes | None = None
        latest_timestamp: float | None = None

    class Seeing(Arm):
        def __init__(self) -> None:
            super().__init__()
            self.cameras = {"wrist": Camera()}

        def get_observation(self) -> dict[str, Any]:
            camera, picture = self.cameras["wrist"], JPEG + bytes([self.observed])
            camera.latest_frame, camera.latest_timestamp = picture, time.perf_counter() - 0.25
            if self.observed == 1:  # meanwhile the camera has taken the next
                camera.latest_frame = JPEG + b"another"
            return {**super().get_observation(), "wrist": picture}

    arm = Seeing()
    arm.connect()
    with TelemetryListener(nats_server) as heard:
        attachment = attach(arm, nats_target(nats_server), frame_rate_hz=1000)
        for _ in range(2):
            arm.get_observation()
            until(lambda: (stats := attachment.stats()) is not None and stats.frames_waiting == stats.waiting == 0)
        arm.disconnect()
    ages_s = [
        sample.captured_at_s - float(headers["Frame-Captured-At"])
        for sample, (headers, _) in zip(heard.samples(), heard.frames, strict=True)
    ]
    assert 0.25 <= ages_s[0] < 5
    assert ages_s[1] == 0


def test_credentials_of_one_session_are_enough(tmp_path: Path) -> None:
    with OperatorNats(tmp_path) as server:
        seed = SecretStr((server.keys / "services.seed").read_text())
        token = BusTokenIssuer(seed).issue(session_sender_grant("local", SESSION), 60)
        names = subjects()
        nats = NatsTarget(
            server.url,
            names["joints"],
            names["frames"],
            names["clock"],
            credentials=token.credentials.get_secret_value(),
            inbox_prefix=token.inbox_prefix,
        )
        assert "SEED" not in repr(nats)
        with Clock(server) as heard, Streamer(Target(nats=nats), names=("a",)) as streamer:
            until(lambda: streamer.stats().clock_offset_s is not None)
            streamer.offer([1.0])
            streamer.offer_frame(JPEG)
            stats = streamer.close()
    assert (stats.sent, stats.frames_sent, stats.errors) == (1, 1, 0)
    assert len(heard.samples()) == len(heard.frames) == 1


def test_without_credentials_that_are_taken_it_goes_by_http(tmp_path: Path) -> None:
    with OperatorNats(tmp_path) as server, RobotIngestServer(server.url) as door:
        with Streamer(target_of(door.view(), door.url), names=("a",)) as streamer:
            streamer.offer([1.0])
            until(lambda: streamer.stats().sent == 1)
        assert len(door.batches) == 1


def test_the_clocks_offset_is_found_and_sent(nats_server: NatsServer) -> None:
    with (
        Clock(nats_server) as heard,
        Streamer(nats_target(nats_server), names=("a",), frame_rate_hz=1000) as streamer,
    ):
        until(lambda: streamer.stats().clock_offset_s is not None)
        streamer.offer([1.0])
        streamer.offer_frame(JPEG)
        until(lambda: streamer.stats().frames_sent == 1)
    clock = heard.batches[-1].clock
    assert clock is not None
    # It is as exact as it says: half of the shortest way there and back, and both clocks are this machine's.
    assert abs(clock.offset_s - SKEW_S) <= clock.error_s + 0.002
    assert float(heard.frames[0][0]["Frame-Clock-Offset"]) == clock.offset_s


def test_a_session_that_is_refused_is_asked_for_again_and_again(nats_server: NatsServer) -> None:
    asked = 0
    with RobotIngestServer(nats_server.settings.url) as door, TelemetryListener(nats_server) as heard:

        def opens() -> Target:
            nonlocal asked
            asked += 1
            if asked < 3:
                raise RobotClientError("server_unreachable", "No answer.")
            return target_of(door.view(), door.url)

        with Streamer(opens, names=("a",)) as streamer:
            streamer.offer([1.0])
            until(lambda: streamer.stats().sent == 1)
    assert asked == 3
    assert len(heard.samples()) == 1
    assert SESSION in subjects()["joints"]
    assert isinstance(heard.batches[0], JointBatch)
