"""Share of an enumeration that a run tries: one of every k cases, by an offset that each run draws and prints.

``make soak`` tries all cases. ``make test`` tries a share of those enumerations that take long: which one, the offset
says, so that runs one after the other try all of them. ``--share-offset`` repeats the choice of a run.

Cases that a loop makes are chosen by the fixture ``share``, parametrised tests by the marker ``share(every=3)``.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from zlib import crc32

import pytest

Case = TypeVar("Case")

#: Runs of each randomised test from which on a run is a soak and tries everything.
SOAK_RUNS = 12
_LARGEST_OFFSET = 10_000


@dataclass(frozen=True)
class Share:
    """What a run tries: everything, or one case of each block of so many, which the offset chooses."""

    offset: int
    is_whole: bool = False

    def takes(self, number: int, every: int) -> bool:
        """Return whether one case of an enumeration is tried where one of ``every`` is."""
        block, place = divmod(number, every)
        # Cases often repeat with a period that has a common factor: each block begins elsewhere.
        return self.is_whole or place == (self.offset + crc32(b"%d" % block)) % every

    def of(self, cases: Sequence[Case], every: int) -> list[Case]:
        """Return the cases that are tried."""
        return [case for number, case in enumerate(cases) if self.takes(number, every)]


def share_of_run(config: pytest.Config) -> Share:
    """Return the share of this run; the same in all its processes."""
    found: Share = config.stash[_SHARE]
    return found


_SHARE = pytest.StashKey[Share]()


class Shares:
    """Plug-in that draws the offset, hands it to the test processes, leaves out the other cases, and prints it."""

    def __init__(self, config: pytest.Config) -> None:
        given = config.getoption("--share-offset")
        drawn = random.SystemRandom().randrange(_LARGEST_OFFSET) if given is None else int(given)
        offset = getattr(config, "workerinput", {}).get("share_offset", drawn)
        self._share = Share(offset, is_whole=config.getoption("--soak-runs") > SOAK_RUNS)
        self._left_out = 0
        config.stash[_SHARE] = self._share

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Pass the offset of the run to a test process."""
        node.workerinput["share_offset"] = self._share.offset

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out cases of marked tests, but none that the command line names."""
        numbers: dict[tuple[object, str], int] = {}
        named = [argument for argument in config.args if "::" in argument]
        left_out = []
        for item in items:
            marker = item.get_closest_marker("share")
            if marker is None or any(item.nodeid.startswith(one) for one in named):
                continue
            # Tests of one file that have a case in common take it together: it is made once for them.
            case = (item.path, item.name.partition("[")[2])
            number = numbers.setdefault(case, sum(path == item.path for path, _ in numbers))
            if not self._share.takes(number, **marker.kwargs):
                left_out.append(item)
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            chosen = set(map(id, left_out))
            items[:] = [item for item in items if id(item) not in chosen]

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Show the offset."""
        if not self._share.is_whole:
            terminalreporter.write_line(f"Share of long enumerations: --share-offset {self._share.offset}")
