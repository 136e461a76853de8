"""A hidden package is absent inside the block only; without collection of garbage nothing changes after the block."""

from __future__ import annotations

import gc
import importlib
import json
import sys

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
