"""Splat files of viewers: the PLY of 3D Gaussian Splatting."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from modal_workers.gaussians.splats import Splats

_END: Final = b"end_header\n"
_TYPES: Final = {"float": "<f4", "float32": "<f4", "double": "<f8", "float64": "<f8", "uchar": "u1", "uint8": "u1"}


@dataclass(frozen=True)
class EncodedSplats:
    """The bytes of a file, and the number of splats in it."""

    data: bytes
    splats: int
    left_out: int  # number of splats that were not finite

    def write(self, path: Path) -> None:
        """Write the bytes atomically."""
        temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
        temporary.write_bytes(self.data)
        temporary.replace(path)


def encode_ply(splats: Splats, *, importance: Tensor | None = None, max_splats: int | None = None) -> EncodedSplats:
    """Return the binary little-endian PLY: position, normal (zero), f_dc, f_rest, opacity, scale, rot, all float32.

    With ``importance`` [N] the most important splats come first, so that any prefix contains the best ones. Opacities
    are logits, scales logarithms, quaternions w first; f_rest has all of red, then green, then blue.
    Source: Kerbl et al., github.com/graphdeco-inria/gaussian-splatting, scene/gaussian_model.py ``save_ply``.
    """
    chosen, left_out = _chosen(splats, importance, max_splats)
    count = len(chosen)
    columns = [chosen.means, torch.zeros_like(chosen.means), chosen.colours]
    rest = 0
    if chosen.sh_rest is not None:
        columns.append(chosen.sh_rest.transpose(1, 2).reshape(count, -1))
        rest = columns[-1].shape[1]
    unit = torch.nn.functional.normalize(chosen.quaternions, dim=-1)
    columns += [chosen.logit_opacities[:, None], chosen.log_scales, unit]
    values = torch.cat([column.to(torch.float32) for column in columns], 1).numpy()
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {count}"]
    header += [f"property float {name}" for name in _names(rest)]
    start = "\n".join([*header, "end_header\n"]).encode()
    return EncodedSplats(start + values.astype("<f4").tobytes(), count, left_out)


def decode_ply(source: bytes | Path) -> Splats:
    """Decode a PLY of splats of SH degree 0 to 3, with or without normals, with properties in any order.

    Raises:
        ValueError: it is not such a file, or it is incomplete.
    """
    data = source.read_bytes() if isinstance(source, Path) else source
    end = data.find(_END)
    if not data.startswith(b"ply\n") or end < 0 or b"format binary_little_endian 1.0" not in data[:end]:
        raise ValueError("This is not a binary little-endian PLY file.")
    header = data[:end].decode("ascii", "replace")
    found = re.search(r"^element vertex (\d+)$", header, re.MULTILINE)
    properties = re.findall(r"^property (\w+) (\w+)$", header, re.MULTILINE)
    rest = sum(name.startswith("f_rest_") for _, name in properties)
    missing = set(_names(rest)) - {name for _, name in properties} - {"nx", "ny", "nz"}
    if found is None or missing or rest not in {0, 9, 24, 45}:
        raise ValueError(f"This PLY file has no splats: {', '.join(sorted(missing)) or 'the count'} is missing.")
    if any(kind not in _TYPES for kind, _ in properties):
        raise ValueError("This PLY file has properties of unknown types.")
    row = np.dtype([(name, _TYPES[kind]) for kind, name in properties])
    count = int(found[1])
    if len(data) < end + len(_END) + count * row.itemsize:
        raise ValueError(f"This PLY file is incomplete: its header declares {count} splats.")
    rows = np.frombuffer(data, row, count, end + len(_END))

    def columns(*names: str) -> Tensor:
        return torch.from_numpy(np.stack([rows[name].astype(np.float32) for name in names], -1))

    return Splats(
        columns("x", "y", "z"),
        columns("scale_0", "scale_1", "scale_2"),
        columns("rot_0", "rot_1", "rot_2", "rot_3"),
        columns("opacity")[:, 0],
        columns("f_dc_0", "f_dc_1", "f_dc_2"),
        columns(*_rest_names(rest)).reshape(count, 3, rest // 3).transpose(1, 2).contiguous() if rest else None,
    )


def _chosen(splats: Splats, importance: Tensor | None, max_splats: int | None) -> tuple[Splats, int]:
    kept = torch.nonzero(splats.finite())[:, 0]
    left_out = len(splats) - len(kept)
    if importance is not None:
        kept = kept[torch.argsort(importance.detach()[kept], descending=True, stable=True)]
    return splats.detach().select(kept[:max_splats]).to("cpu"), left_out


def _names(rest: int) -> list[str]:
    first = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *_rest_names(rest)]
    return [*first, "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]


def _rest_names(rest: int) -> list[str]:
    return [f"f_rest_{index}" for index in range(rest)]
