"""A snapshot at any position and the events after it give what all events give."""

from __future__ import annotations

import functools
import random
import sys
import typing
from collections import Counter
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from kit.bus.event_store import StoredEvent
from services.dispatcher.snapshots.fold_state import FoldState
from services.dispatcher.snapshots.snapshot_file import (
    SnapshotInvalid,
    decode_snapshot,
    encode_snapshot,
    fingerprinted_files,
    header_of,
)
from tests.harness.dispatch.folded_history import UnconnectedDispatcher, random_fold_history

pytestmark = pytest.mark.anyio
SEEDS = range(6)


@functools.cache
def history_of(seed: int) -> list[StoredEvent]:
    return random_fold_history(seed)


@pytest.fixture(params=SEEDS, ids=[f"seed-{seed}" for seed in SEEDS])
def history(request: pytest.FixtureRequest) -> list[StoredEvent]:
    return history_of(request.param)


@pytest.fixture
def histories() -> list[list[StoredEvent]]:
    return [history_of(seed) for seed in SEEDS]


def stored_and_read(state: FoldState, sequence: int) -> FoldState:
    header = header_of(state, "e", sequence)
    found, read = decode_snapshot(encode_snapshot(header, state))
    assert found == header
    return read


async def test_a_snapshot_and_the_rest_equal_the_whole(history: list[StoredEvent]) -> None:
    whole = UnconnectedDispatcher()
    whole.fold(history)
    expected = whole.state.capture()
    chance = random.Random(len(history))
    for cut in sorted({0, len(history), *chance.sample(range(len(history)), 25)}):
        before = UnconnectedDispatcher()
        before.fold(history[:cut])
        state = before.state.capture()
        sequence = history[cut - 1].sequence if cut else 0
        read = stored_and_read(state, sequence)
        assert read == state
        after = UnconnectedDispatcher()
        after.state.restore(read)
        assert after.state.capture() == state
        after.fold(history[cut:])
        assert after.state.capture() == expected, f"cut at {cut}"


async def test_snapshots_of_snapshots_equal_the_whole(history: list[StoredEvent]) -> None:
    """A dispatcher may never fold the whole again: each starts from what the one before it has stored."""
    whole, current = UnconnectedDispatcher(), UnconnectedDispatcher()
    whole.fold(history)
    for start in range(0, len(history), 40):
        current.fold(history[start : start + 40])
        state = stored_and_read(current.state.capture(), history[min(start + 40, len(history)) - 1].sequence)
        current = UnconnectedDispatcher()
        current.state.restore(state)
    assert current.state.capture() == whole.state.capture()


async def test_jobs_that_are_ahead_of_the_fold_are_folded_once(history: list[StoredEvent]) -> None:
    """What a leader publishes is in its jobs before it comes back; in a snapshot between the two it counts once."""
    whole = UnconnectedDispatcher()
    whole.fold(history)
    cut = len(history) // 2
    ahead, later = UnconnectedDispatcher(), UnconnectedDispatcher()
    ahead.fold(history[:cut])
    later.fold(history[: cut + 30])
    for job in later.state.jobs:
        ahead.state.jobs.put(job)
    state = ahead.state.capture()
    assert header_of(state, "e", history[cut - 1].sequence).reached >= history[cut - 1].sequence
    after = UnconnectedDispatcher()
    after.state.restore(stored_and_read(state, history[cut - 1].sequence))
    after.fold(history[cut:])
    assert Counter(job.id for job in after.state.jobs) == Counter(job.id for job in whole.state.jobs)
    assert {job.id: job for job in after.state.jobs} == {job.id: job for job in whole.state.jobs}
    assert after.state.capture().account == whole.state.capture().account


async def test_histories_have_something_of_every_kind(histories: list[list[StoredEvent]]) -> None:
    kinds: Counter[str] = Counter()
    for history in histories:
        found = UnconnectedDispatcher()
        for stored in history:
            found.fold([stored])
            if stored.sequence % 10 == 0:
                state = found.state.capture()
                kinds.update({declared.name: len(getattr(state, declared.name)) for declared in fields(FoldState)})
    assert [name for name in (declared.name for declared in fields(FoldState)) if not kinds[name]] == []


def test_a_damaged_file_is_refused() -> None:
    state = FoldState(failed_upload=("upl_a", "upl_b"), completed_upload=(7,))
    data = encode_snapshot(header_of(state, "e", 7), state)
    assert decode_snapshot(data)[1] == state
    for place in range(len(data)):
        with pytest.raises(SnapshotInvalid):
            decode_snapshot(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(SnapshotInvalid):
            decode_snapshot(data[:place])


def test_a_file_of_another_version_is_refused() -> None:
    header = header_of(FoldState(), "e", 7)
    for other in (header.model_copy(update={"fingerprint": "0" * 64}), header.model_copy(update={"format": 99})):
        with pytest.raises(SnapshotInvalid, match="another version"):
            decode_snapshot(encode_snapshot(other, FoldState()))


def test_the_fingerprint_covers_every_class_of_the_state() -> None:
    files = set(fingerprinted_files())
    for found in _classes(FoldState, set()):
        path = Path(sys.modules[found.__module__].__file__ or "")
        assert path in files, f"{found} may change without the fingerprint"
    names = {path.name for path in files}
    assert {"on_job.py", "on_rule.py", "on_budget.py", "spending.py", "cost_settlement.py", "group_book.py"} <= names


def _classes(found: Any, seen: set[type]) -> set[type]:
    """Return the classes of this repository that a type is made of."""
    for argument in typing.get_args(found):
        _classes(argument, seen)
    own = isinstance(found, type) and found.__module__.split(".")[0] in ("contracts", "services", "kit")
    if not own or found in seen:
        return seen
    seen.add(found)
    if is_dataclass(found) or issubclass(found, BaseModel):
        for hint in typing.get_type_hints(found).values():
            _classes(hint, seen)
    return seen
