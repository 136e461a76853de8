"""Scripted worker that needs a GPU, and a larger one if its script says so."""

from __future__ import annotations

from dataclasses import replace

from contracts.workload import Compute
from tests.workers.scripted import spec

WORKLOAD = replace(
    spec.WORKLOAD,
    name="laddered",
    title="Laddered",
    compute=Compute(gpus=("T4", "A10", "A100"), memory_bytes=256 * 1024**2, start_timeout_s=30.0),
)
