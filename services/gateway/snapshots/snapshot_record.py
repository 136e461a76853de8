"""Record of what this process does with snapshots of the view, for its metrics and for those who ask during a start."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from contracts.limits import MIB
from kit.snapshot_store import StoredSnapshot

#: What happens to a snapshot: this gateway has stored it, goes on from it, or could not store one.
Result = Literal["stored", "used", "failed"]
#: Why a start passes a snapshot over: its bytes are not what was written; another version wrote it; the stream is
#: another one, or has deleted what comes after it; something was erased since; the disk has no room for its view.
Reason = Literal["damaged", "version", "lineage", "deleted", "erased", "room"]
_RESULTS: Final[tuple[Result, ...]] = ("stored", "used", "failed")


class SnapshotRecord(Collector):
    """Counts of one process, and the newest snapshot that it has seen in the bucket."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.results: Counter[Result] = Counter()
        self.refused: Counter[Reason] = Counter()
        #: The newest one that can be used; None if there is none.
        self.newest: StoredSnapshot | None = None
        #: Time that the last one took to store, and to fetch.
        self.seconds: dict[Literal["store", "fetch"], float] = {}
        self._fetching: tuple[StoredSnapshot, Path] | None = None

    @contextmanager
    def fetching(self, stored: StoredSnapshot, path: Path) -> Iterator[None]:
        """Show that a snapshot is being written to a path."""
        self._fetching = stored, path
        try:
            yield
        finally:
            self._fetching = None

    def begin_with(self, start: SnapshotRecord) -> None:
        """Go on from what the start of this process has recorded."""
        self.results += start.results
        self.refused += start.refused
        self.newest, self.seconds = start.newest, {**start.seconds}

    def what(self) -> str:
        """Return what the start is doing, in a sentence."""
        if self._fetching is None:
            return "It looks for a snapshot of the view."
        stored, path = self._fetching
        size = 0
        with suppress(OSError):
            size = path.stat().st_size
        return (
            f"It downloads the snapshot of the view at event {stored.sequence}: "
            f"{size / MIB:.1f} of {stored.size_bytes / MIB:.1f} MiB."
        )

    def stored(self, snapshot: StoredSnapshot, began: float) -> None:
        """Record that one was stored, since ``began`` by the monotonic clock."""
        self.results["stored"] += 1
        self.newest = snapshot
        self.seconds["store"] = time.monotonic() - began

    def used(self, snapshot: StoredSnapshot, began: float) -> None:
        """Record that the view goes on from one."""
        self.results["used"] += 1
        self.newest = snapshot
        self.seconds["fetch"] = time.monotonic() - began

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        results = CounterMetricFamily(
            "saccade_gateway_snapshots", "Snapshots of the view, by what became of them", labels=["result"]
        )
        for result in _RESULTS:
            results.add_metric([result], self.results[result])
        yield results
        refused = CounterMetricFamily(
            "saccade_gateway_snapshots_refused", "Snapshots that a start passed over, by reason", labels=["reason"]
        )
        for reason, count in list(self.refused.items()):
            refused.add_metric([reason], count)
        yield refused
        took = GaugeMetricFamily(
            "saccade_gateway_snapshot_seconds", "Time that the last snapshot took", labels=["operation"]
        )
        for operation, seconds in list(self.seconds.items()):
            took.add_metric([operation], seconds)
        yield took
        yield from self._of_newest()

    def _of_newest(self) -> Iterator[Metric]:
        newest = self.newest
        sequence = GaugeMetricFamily(
            "saccade_gateway_snapshot_sequence", "Sequence of the last event in the newest snapshot of the view"
        )
        size = GaugeMetricFamily("saccade_gateway_snapshot_bytes", "Size of the newest snapshot of the view")
        age = GaugeMetricFamily("saccade_gateway_snapshot_age_seconds", "Age of the newest snapshot of the view")
        if newest is not None:
            sequence.add_metric([], newest.sequence)
            size.add_metric([], newest.size_bytes)
            if newest.stored_at is not None:
                age.add_metric([], (datetime.now(UTC) - newest.stored_at).total_seconds())
        yield from (sequence, size, age)
