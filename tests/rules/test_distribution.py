"""The lists of tests/harness/distribution.py match the tests: large libraries are loaded in their lanes only."""

from __future__ import annotations

import ast
import functools
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.harness.distribution import (
    COMPUTING,
    LANES,
    LIGHT,
    SECONDS,
    is_collected,
    lane_of,
    lanes_of_processes,
    process_count,
)
from tests.rules.tree import CODE, ROOT, parsed, python_files

LARGE = {"cv2", "torch", "torchvision", "pycolmap"}
ALLOWED = {"torch": LARGE, "opencv": {"cv2"}, "light": set()}
#: Folders that are import roots themselves (pyproject.toml, pythonpath).
_ROOTS = ("clients/python/", "clients/events/", "clients/lerobot/robot_client/")


def _module(path: str) -> str:
    for root in _ROOTS:
        path = path.removeprefix(root)
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


_MODULES = {_module(path): path for path in python_files(*CODE, "tests")}


def _statements(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield what a module imports while it is imported itself."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _statements([child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)])


@functools.cache
def _imported(module: str) -> frozenset[str]:
    found = set()
    for node in _statements(parsed(_MODULES[module]).body):
        names = [name.name for name in node.names]
        for name in names if isinstance(node, ast.Import) else [f"{node.module}.{name}" for name in names]:
            parts = name.split(".")
            found |= {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
    return frozenset(name for name in found if name in _MODULES or name in LARGE)


def _large_libraries_of(path: str) -> set[str]:
    seen: set[str] = set()
    left = [_module(path)]
    while left:
        module = left.pop()
        if module not in seen:
            seen.add(module)
            left += () if module in LARGE else _imported(module)
    return seen & LARGE


def _test_files() -> list[str]:
    return [path for path in python_files("tests") if path.rpartition("/")[2].startswith("test_")]


def test_large_libraries_are_loaded_in_their_lanes_only() -> None:
    loaded = {path: _large_libraries_of(path) - ALLOWED[lane_of(path)] for path in _test_files()}
    assert {path: found for path, found in loaded.items() if found} == {}


def test_the_lists_name_what_exists() -> None:
    named = [*(path for places in COMPUTING.values() for path in places), *SECONDS]
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_each_file_is_collected_in_one_lane() -> None:
    for path in _test_files():
        folders = [path.rsplit("/", depth)[0] for depth in range(1, path.count("/") + 1)]
        lanes = [lane for lane in LANES if all(is_collected(part, [lane]) for part in (path, *folders))]
        assert lanes == [lane_of(path)], path


@pytest.mark.parametrize(
    ("cores", "available_gib", "processes"),
    [(1, 4, 3), (2, 24, 5), (8, 64, 17), (16, 64, 24), (16, 6, 6), (16, 0, 1)],
)
def test_processes_go_by_cores_and_memory(cores: int, available_gib: int, processes: int) -> None:
    assert process_count(cores, available_gib << 30) == processes


@pytest.mark.parametrize("processes", range(1, 33))
def test_every_number_of_processes_runs_every_lane_and_most_of_them_wait(processes: int) -> None:
    lanes = lanes_of_processes(processes)
    assert len(lanes) == processes
    assert {lane for lanes_of_one in lanes for lane in lanes_of_one} == set(LANES)
    if processes >= 5:
        assert Counter(lanes)[LIGHT,] > processes / 2


def test_both_lanes_that_compute_have_a_process_each_of_five() -> None:
    assert lanes_of_processes(5) == [("torch",), ("opencv",), (LIGHT,), (LIGHT,), (LIGHT,)]
