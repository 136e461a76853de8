"""JSON written piece by piece: columns of numbers straight from arrays, NaN as null, nothing held twice."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np
from numpy.typing import NDArray

#: Rows of an array that are written at once.
ROWS: Final = 4096
_ENCODED: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


@dataclass(frozen=True, eq=False)
class Column:
    """An array to be written with so many decimal digits."""

    values: NDArray[Any]
    digits: int = 3


def write_json(path: Path, value: Any) -> None:
    """Write a value: mappings, sequences, iterators (as arrays), ``Column``, text, numbers (NaN as null), booleans."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        _write(file, value)
        file.write("\n")


def rounded(value: float, digits: int = 4) -> float | None:
    """Return a number rounded for JSON; None for what is not finite."""
    return round(float(value), digits) if math.isfinite(value) else None


def _write(file: TextIO, value: Any) -> None:
    if isinstance(value, Column):
        _write_column(file, value)
    elif isinstance(value, Mapping):
        for number, (key, item) in enumerate(value.items()):
            file.write(f"{',' if number else '{'}{json.dumps(str(key))}:")
            _write(file, item)
        file.write("}" if value else "{}")
    elif isinstance(value, list | tuple | Iterator):
        file.write("[")
        for number, item in enumerate(value):
            if number:
                file.write(",")
            _write_row(file, item)
        file.write("]")
    elif isinstance(value, float) and not math.isfinite(value):
        file.write("null")
    else:
        file.write(_ENCODED(value))


def _write_row(file: TextIO, row: Any) -> None:
    """Write an item of an array by the encoder in C, more than twice as fast, unless it has a NaN or a type of ours."""
    try:
        text = _ENCODED(row)
    except (TypeError, ValueError):
        _write(file, row)
    else:
        file.write(text)


def _write_column(file: TextIO, column: Column) -> None:
    file.write("[")
    for start in range(0, len(column.values), ROWS):
        text = json.dumps(_plain(column, start), separators=(",", ":"))
        # The list holds numbers only, so this replaces numbers only.
        file.write("," * (start > 0) + text[1:-1].replace("NaN", "null"))
    file.write("]")


def _plain(column: Column, start: int) -> Any:
    part = column.values[start : start + ROWS]
    if part.dtype.kind != "f":
        return part.tolist()
    exact = np.asarray(part, np.float64)
    return np.round(np.where(np.isfinite(exact), exact, np.nan), column.digits).tolist()
