"""ONNX files written field by field, without a library: networks that find one red patch, or what is white."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Layout = Literal["chosen", "cells"]
ROWS = {"chosen": 300, "cells": 84}


def _varint(value: int) -> bytes:
    found = bytearray()
    while True:
        low, value = value & 0x7F, value >> 7
        found.append(low | (0x80 if value else 0))
        if not value:
            return bytes(found)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(raw)) + raw


def _tensor(name: str, values: NDArray[np.float32] | NDArray[np.int64]) -> bytes:
    kind = 7 if values.dtype == np.int64 else 1
    dims = b"".join(_number(1, size) for size in values.shape)
    return dims + _number(2, kind) + _bytes(8, name) + _bytes(9, values.tobytes())


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    dims = b"".join(_bytes(1, _number(1, size)) for size in shape)
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, 1) + _bytes(2, dims)))


def _node(kind: str, inputs: list[str], output: str) -> bytes:
    return b"".join(_bytes(1, name) for name in inputs) + _bytes(2, output) + _bytes(3, output) + _bytes(4, kind)


def write_red_patch_network(
    path: Path, side_px: int, persons: list[tuple[float, float, float]], layout: Layout = "chosen", values: int = 57
) -> None:
    """Write a network whose persons are at offsets (x, y) from the middle of a red patch, with confidences.

    Boxes are 20 px wide and 40 px high; keypoint k is k px below the middle. ``values`` other than 57 (``chosen``) or
    56 (``cells``) make an output that is no pose.
    """
    y, x = np.mgrid[0:side_px, 0:side_px].astype(np.float32) + 0.5
    ramp = np.stack([x.ravel(), y.ravel(), np.ones(side_px**2, np.float32)], axis=1)
    tensors = {
        "red_minus_others": np.array([1, -1, -1], np.float32).reshape(1, 3, 1, 1),
        "threshold": np.array([-0.4], np.float32),
        "flat": np.array([1, side_px**2], np.int64),
        "ramp": np.ascontiguousarray(ramp, np.float32),
        "sums": np.array([[1, 0], [0, 1], [0, 0]], np.float32),
        "weight": np.array([[0, 0], [0, 0], [1, 1]], np.float32),
        "little": np.full((1, 2), 1e-6, np.float32),
        **_placed(persons, layout, values),
    }
    nodes = [
        ("Conv", ["images", "red_minus_others", "threshold"], "redness"),
        ("Relu", ["redness"], "patch"),
        ("Reshape", ["patch", "flat"], "pixels"),
        ("MatMul", ["pixels", "ramp"], "moments"),
        ("MatMul", ["moments", "sums"], "numerator"),
        ("MatMul", ["moments", "weight"], "total"),
        ("Add", ["total", "little"], "denominator"),
        ("Div", ["numerator", "denominator"], "middle"),
        ("MatMul", ["middle", "spread"], "moved"),
        ("Add", ["moved", "offsets"], "all"),
        ("Reshape", ["all", "shape"], "output0"),
    ]
    _write(path, nodes, tensors, ("images", (1, 3, side_px, side_px)), ("output0", tensors["shape"].tolist()))


def write_white_network(
    path: Path, *, pictures: int, background: bool, maps: int, height_px: int = 72, width_px: int = 128
) -> None:
    """Write a network with the shape of a TrackNet: heat is 1 where a picture is white and, if given, was not before.

    ``maps`` is ``pictures``, or 1 for a network that shows the last picture only.
    """
    channels = 3 * (pictures + background)
    weight = np.zeros((maps, channels, 1, 1), np.float32)
    for row in range(maps):
        first = 3 * (pictures - maps + row + background)
        weight[row, first : first + 3] = 2 / 3
        if background:
            weight[row, :3] = -2 / 3
    tensors = {"weight": weight, "offset": np.full(maps, -0.8, np.float32)}
    nodes = [("Conv", ["images", "weight", "offset"], "heat"), ("Relu", ["heat"], "output")]
    shape = (1, channels, height_px, width_px)
    _write(path, nodes, tensors, ("images", shape), ("output", [1, maps, height_px, width_px]))


def _write(
    path: Path,
    nodes: list[tuple[str, list[str], str]],
    tensors: dict[str, NDArray],
    place_in: tuple[str, tuple[int, ...]],
    place_out: tuple[str, list[int]],
) -> None:
    graph = b"".join(_bytes(1, _node(*node)) for node in nodes) + _bytes(2, "tests")
    graph += b"".join(_bytes(5, _tensor(name, tensor)) for name, tensor in tensors.items())
    graph += _bytes(11, _value(*place_in)) + _bytes(12, _value(place_out[0], tuple(int(size) for size in place_out[1])))
    opset = _bytes(8, _bytes(1, "") + _number(2, 13))
    path.write_bytes(_number(1, 8) + _bytes(2, "saccade tests") + opset + _bytes(7, graph))


def _placed(persons: list[tuple[float, float, float]], layout: Layout, values: int) -> dict[str, NDArray]:
    """Return the matrix from the patch's middle to the output's numbers, what is added to them, and their shape."""
    rows = ROWS[layout]
    along = np.zeros((2, rows, values), np.float32)
    added = np.zeros((rows, values), np.float32)
    first = 6 if layout == "chosen" else 5
    for row, (right, down, confidence) in enumerate(persons):
        corners = [(-10, -20), (10, 20)] if layout == "chosen" else [(0, 0)]
        for corner, (a, b) in enumerate(corners):
            along[0, row, 2 * corner] = along[1, row, 2 * corner + 1] = 1
            added[row, 2 * corner : 2 * corner + 2] = right + a, down + b
        if layout == "cells":
            added[row, 2:4] = 20, 40
        added[row, 4] = confidence
        for point in range((values - first) // 3):
            at = first + 3 * point
            along[0, row, at] = along[1, row, at + 1] = 1
            added[row, at : at + 3] = right, down + point, 0.8
    if layout == "cells":
        along, added = along.transpose(0, 2, 1), added.T
    shape = (1, *added.shape)
    return {
        "spread": np.ascontiguousarray(along.reshape(2, -1)),
        "offsets": np.ascontiguousarray(added.reshape(1, -1)),
        "shape": np.array(shape, np.int64),
    }
