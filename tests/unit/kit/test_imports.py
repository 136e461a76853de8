"""Hidden packages, imports without collection of garbage, and full collections that are rarer in a service."""

from __future__ import annotations

import gc
import importlib
import json
import subprocess
import sys
import textwrap

import pytest

from kit.imports import hidden, without_garbage_collection


def test_a_hidden_package_is_absent_inside_the_block_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with pytest.raises(ImportError), hidden("colorsys"):
        importlib.import_module("colorsys")
    assert importlib.import_module("colorsys").rgb_to_hsv


def test_a_package_that_is_loaded_already_stays() -> None:
    with hidden("json"):
        assert importlib.import_module("json") is json
    assert sys.modules["json"] is json


def test_nothing_is_collected_inside_and_what_was_made_there_is_left_out() -> None:
    frozen = gc.get_freeze_count()
    with without_garbage_collection():
        assert not gc.isenabled()
        made = [[number] for number in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= frozen + len(made)


def test_where_it_was_off_it_stays_off() -> None:
    gc.disable()
    try:
        with without_garbage_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


_CHECK = """
import gc, weakref
from kit.imports import collect_seldom

made = [[number] for number in range(1000)]
frozen, young, full = gc.get_freeze_count(), gc.get_threshold()[:2], gc.get_stats()[2]["collections"]
collect_seldom()
assert gc.isenabled() and gc.get_freeze_count() >= frozen + len(made)
assert gc.get_threshold()[:2] == young, "younger objects are looked through as ever"

class Cycle:
    def __init__(self):
        self.own = self

kept = []
for number in range(400_000):  # more than one default interval of full collections
    kept.append([number])
assert gc.get_stats()[2]["collections"] == full, "a full collection of objects that stay"

garbage = Cycle()
gone = weakref.ref(garbage)
del garbage
while gone() is not None:
    kept.append([])
    assert len(kept) < 2_000_000, "garbage stays"
"""


def test_what_exists_is_left_out_and_garbage_still_goes() -> None:
    """In a process of its own: what is left out stays so until its end."""
    subprocess.run([sys.executable, "-c", textwrap.dedent(_CHECK)], check=True, timeout=120)
