"""Garbage collection of a service: what exists is left out, full collections are rarer, garbage still goes."""

import subprocess
import sys
import textwrap

_CHECK = """
import gc, weakref
from kit.garbage_collection import collect_seldom

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
