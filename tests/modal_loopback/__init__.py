"""Stand-in for Modal's server on 127.0.0.1, for Modal's own client and container runtime; see README.md."""

from __future__ import annotations

from tests.modal_loopback.loopback import Loopback, dialled, running
from tests.modal_loopback.records import AskedFunction, ContainerRecord, LogLine

__all__ = ["AskedFunction", "ContainerRecord", "LogLine", "Loopback", "dialled", "running"]
