"""Loopback with the small worker of ``sample/``, deployed by Modal's own client."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.modal_loopback import Loopback, dialled, running

_SAMPLE = Path(__file__).with_name("sample")


@contextmanager
def small_worker(folder: Path, *, environment: str = "main") -> Iterator[Loopback]:
    """Run a loopback in a folder, with the worker deployed and its secret."""
    with pytest.MonkeyPatch.context() as patch, running(folder, environment=environment) as loopback, dialled(loopback):
        patch.setenv("MODAL_PAYLOAD_FORMAT", "cbor")
        patch.syspath_prepend(_SAMPLE)
        loopback.secrets["bucket"] = {"S3_KEY": "k1"}
        try:
            importlib.import_module("small_worker").app.deploy()
            yield loopback
        finally:
            sys.modules.pop("small_worker", None)
            sys.modules.pop("small_source", None)
