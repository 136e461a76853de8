"""A video of many megabytes that costs little to encode: one second of noise, repeated."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

_RATE, _WIDTH, _HEIGHT = 10, 320, 240


def write_large_video(path: Path, size_bytes: int) -> None:
    """Encode an MP4 of at least this size that browsers play, with its index at the beginning."""
    with av.open(path, "w", format="mp4", options={"movflags": "faststart"}) as output:
        # Key frames only, so that the packets can be repeated.
        options = {"preset": "ultrafast", "tune": "zerolatency", "g": "1"}
        stream = output.add_stream("libx264", rate=_RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        generator = np.random.default_rng(7)
        packets = []
        for _ in range(_RATE):
            pixels = generator.integers(0, 256, (_HEIGHT, _WIDTH, 3), np.uint8)
            packets += stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24"))
        packets += stream.encode()
        time_base = packets[0].time_base
        step = int(1 / (_RATE * time_base))
        bodies = [bytes(packet) for packet in packets]
        number = written = 0
        while written < size_bytes:
            body = bodies[number % len(bodies)]
            packet = av.Packet(body)
            packet.stream, packet.time_base = stream, time_base
            packet.pts = packet.dts = number * step
            packet.duration, packet.is_keyframe = step, True
            output.mux(packet)
            number, written = number + 1, written + len(body)
