"""Checkpoint files: nested tensors and numbers in one npz, bit-exact. No code is ever loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_SEPARATOR = "/"


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, arrays and numbers by their path; the file is replaced atomically."""
    temporary = path.with_name(f"{path.name}.part")
    with temporary.open("wb") as file:
        np.savez(file, **dict(_flatten(state, "")))
    temporary.replace(path)


def load_state(path: Path, device: torch.device) -> dict[str, Any]:
    """Read what ``save_state`` wrote, as tensors on a device."""
    state: dict[str, Any] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            *parents, last = name.split(_SEPARATOR)
            inner = state
            for parent in parents:
                inner = inner.setdefault(parent, {})
            inner[last] = torch.from_numpy(arrays[name]).to(device)
    return state


def _flatten(state: dict[str, Any], prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in state.items():
        if isinstance(value, dict):
            found += _flatten(value, f"{prefix}{name}{_SEPARATOR}")
        else:
            found.append((f"{prefix}{name}", value.detach().cpu().numpy() if isinstance(value, Tensor) else value))
    return found
