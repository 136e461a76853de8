"""Nested tensors and numbers in one npz and back, bit by bit: what a run goes on from. No code is ever read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_SEPARATOR = "/"


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, arrays and numbers, named by their path; a reader sees the old file or the whole new one."""
    temporary = path.with_name(f"{path.name}.part")
    with temporary.open("wb") as file:
        np.savez(file, **dict(_flat(state, "")))
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


def _flat(state: dict[str, Any], before: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in state.items():
        if isinstance(value, dict):
            found += _flat(value, f"{before}{name}{_SEPARATOR}")
        else:
            found.append((f"{before}{name}", value.detach().cpu().numpy() if isinstance(value, Tensor) else value))
    return found
