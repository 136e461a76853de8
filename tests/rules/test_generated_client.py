"""The blocking Python client is generated from the asyncio client and is up to date."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from tests.rules.tree import ROOT

SCRIPT = ROOT / "clients" / "python" / "generate_sync.py"


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_sync", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = load_generator()


@pytest.mark.parametrize("source", GENERATOR.MODULES)
def test_the_blocking_client_is_generated_from_the_asyncio_client(source: str) -> None:
    target = GENERATOR.PACKAGE / GENERATOR.MODULES[source]
    assert target.read_text() == GENERATOR.generate(source), f"run: make docs ({target.name} is stale)"


@pytest.mark.parametrize("target", GENERATOR.MODULES.values())
def test_nothing_asynchronous_is_left(target: str) -> None:
    text = (GENERATOR.PACKAGE / target).read_text()
    assert not [word for word in ("async ", "await ", "Async", "aclose", "__a") if word in text.partition("\n")[2]]
