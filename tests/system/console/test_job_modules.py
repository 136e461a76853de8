"""Pure modules of the pages Jobs and Job: fold of the timeline, its axis, previews, filters and rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.harness.clients.console_browser import console_tab

pytestmark = pytest.mark.anyio

_CHECKS = Path(__file__).with_name("job_modules.js")


async def test_the_modules_decide_as_the_pages_say(origin: str) -> None:
    async with console_tab(origin, "/console/keys") as tab:
        folder = "document.querySelector('script[type=module]').src.replace('main.js', '')"
        checks = _CHECKS.read_text(encoding="utf-8")
        found: dict[str, Any] = await tab.evaluate(f"({checks[checks.index('async') :]})({folder})")
    check_timeline(found)
    check_previews(found)
    check_lists(found)


def check_timeline(found: dict[str, Any]) -> None:
    assert found["lanes"] == [
        "queue, , wait 0-2, wait 10-7210",
        "device, L4, startup 2-5, interrupted 5-10",
        "device, A100, startup 7210-7215, done 7215-7220",
        "stage, first, done 6-9",
    ]
    assert found["cost"] == [0.25, 0.75]
    assert found["gaps"] == [7200]
    assert found["folds"] == [44]
    assert found["roundTrip"] == [True] * 8
    assert found["ticks"]
    assert found["picked"] == [0, 1, 2, 8]
    assert found["unfinished"] == ["queue, , wait 0-2", "device, L4, startup 2-5, run 5-60"]
    shards = "wait 2-3, wait 2-3, startup 3-4, startup 3-4, done 4-8, done 4-9"
    assert found["staged"] == ["queue, , wait 0-1", f"stage, train, {shards}"]
    assert (found["stagedCost"], found["shardLines"], found["empty"]) == (2, 2, 0)
    assert found["drawn"]
    assert found["counted"]
    # An exact cursor, one between two events, a time, and seconds ago.
    assert found["points"] == [2, 2, 3, 3]
    assert found["next"] == {"what": "rung", "device": "A100", "at": "soon"}


def check_previews(found: dict[str, Any]) -> None:
    assert found["csv"] == [
        [["a", "b"], ['1,"x"', "two\nlines"], ["last"]],
        [["a", "b"], ["1", "2"]],
        [["a"], ["b"]],
    ]
    assert found["json"] == [{"columns": ["a", "b"], "rows": [["1", ""], ["", '{"c":2}']]}, None, None]
    assert found["views"] == ["page", "image", "json", "document", "file"]
    assert found["shown"] == ["b/report.html", "spin.html", "a.csv"]


def check_lists(found: dict[str, Any]) -> None:
    since = "2026-11-23T10:00:00.000Z"
    assert found["filters"] == {"state": ["failed", "queued"], "q": "lap", "since": since}
    assert found["sent"] == {"q": "lap", "since": since}
    assert found["commands"] == ["saccade jobs --state failed --search 'lap 7'", None, None]
    assert found["rows"] == [0.6, True, "succeeded", True, 2]
    # A new job is counted where the list could show it: not where a text, rule, plan or pipeline decides.
    assert found["fresh"] == [True, False, True, False, False, False, False, False, True, False, True, False]
    assert found["caughtUp"] == ["succeeded", "running"]
    assert found["differences"] == [{"name": "params.b.c", "one": "2", "two": "3"}]
