"""Shape of an ONNX network's input, read from the file: OpenCV does not tell it, and the onnx package is not needed.

The file is a protocol buffer: ModelProto.graph = 7; GraphProto.input = 11, initializer = 5; ValueInfoProto.name = 1,
type = 2; TypeProto.tensor_type = 1; Tensor.shape = 2; TensorShapeProto.dim = 1; Dimension.dim_value = 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_GRAPH: Final = 7
_INITIALIZER, _INPUT = 5, 11
_TENSOR_NAME: Final = 8


def input_shape(model: bytes) -> tuple[int, ...]:
    """Return the shape of the first input that is no weight; an unknown size, a batch's for instance, counts as 1.

    Raises:
        ValueError: The bytes are no ONNX network.
    """
    for field, graph in _fields(model):
        if field != _GRAPH or not isinstance(graph, bytes):
            continue
        parts = [(number, part) for number, part in _fields(graph) if isinstance(part, bytes)]
        weights = {_first(part, _TENSOR_NAME) for number, part in parts if number == _INITIALIZER}
        for number, part in parts:
            if number == _INPUT and _first(part, 1) not in weights:
                return tuple(_sizes(part))
    raise ValueError("The file has no graph with an input.")


def _sizes(value_info: bytes) -> Iterator[int]:
    shape = _first(_first(_first(value_info, 2), 1), 2)
    for number, dimension in _fields(shape):
        if number == 1 and isinstance(dimension, bytes):
            size = next((value for field, value in _fields(dimension) if field == 1), 1)
            yield size if isinstance(size, int) else 1


def _first(message: bytes, field: int) -> bytes:
    return next((value for number, value in _fields(message) if number == field and isinstance(value, bytes)), b"")


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a message: numbers, or the bytes of strings and messages; fixed sizes are skipped."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
        elif kind == 2:
            size, at = _varint(message, at)
            if at + size > len(message):
                raise ValueError("A field is longer than its message.")
            yield tag >> 3, message[at : at + size]
            at += size
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError(f"There is no field type {kind}.")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("A number has no end.")
