"""Samples are counted while another thread sends them, and their times are plain finite numbers."""

from __future__ import annotations

import json
import math
import threading

import numpy as np
from saccade_robot.outbox import Batch, JointBatchFormat, Outbox, Sample
from saccade_robot.ring import Ring
from saccade_robot.streamer import Streamer
from saccade_robot.target import IngestTarget


def outbox(ring: Ring[Sample]) -> Outbox:
    return Outbox(ring, JointBatchFormat("arm", ("pan",), "native"), lambda: None)


def test_counts_are_read_while_batches_are_sent() -> None:
    box, over = outbox(Ring(4)), threading.Event()

    def send() -> None:
        number = 0
        while not over.is_set():
            for _ in range(200):
                number += 1
                box.sent_as(Batch(b"", 1), number)
            box.confirm(number)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for _ in range(3000):
            assert 0 <= box.unconfirmed <= 200
    finally:
        over.set()
        sender.join(timeout=60)


def test_a_sample_without_a_finite_time_is_dropped_by_itself() -> None:
    ring: Ring[Sample] = Ring(4)
    for captured_at_s in (1.0, math.nan, 2.0):
        ring.offer((captured_at_s, (0.5,)))
    box = outbox(ring)
    batch = box.next()
    assert batch is not None
    assert [sample[1] for sample in json.loads(batch.body)["samples"]] == [1.0, 2.0]
    assert (batch.samples, box.dropped) == (2, 1)


def test_times_of_numpy_are_sent_as_numbers() -> None:
    with Streamer(IngestTarget(), names=("pan",)) as streamer:
        streamer.offer([0.5], np.float32(2.5))  # type: ignore[arg-type] - what a control loop has
        streamer.offer_frame(b"picture", "wrist", np.float64(2.5))
        ((_, (captured_at_s, _positions)),) = streamer._ring.take(1)
        taken = streamer._cameras["wrist"].take()
    assert taken is not None
    assert [type(captured_at_s), type(taken[1])] == [float, float]
    assert repr(taken[1]) == "2.5"
