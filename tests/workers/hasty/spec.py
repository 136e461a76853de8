"""Scripted worker with a timeout of three seconds."""

from __future__ import annotations

from dataclasses import replace

from contracts.workload import Compute
from tests.workers.scripted import spec

WORKLOAD = replace(
    spec.WORKLOAD, name="hasty", title="Hasty", compute=Compute(memory_bytes=256 * 1024**2, timeout_s=3.0)
)
