"""A stand-in for Modal on 127.0.0.1: its own client dials it, its own container runtime runs in it; see README.md."""

from __future__ import annotations

from tests.modal_loopback.loopback import Loopback, dialled, running
from tests.modal_loopback.records import AskedFunction, ContainerRecord, LogLine

__all__ = ["AskedFunction", "ContainerRecord", "LogLine", "Loopback", "dialled", "running"]
