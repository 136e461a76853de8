"""Checks run at the same time: one that hangs or fails delays and stops no other."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from cli.doctor.report_line import ReportLine, ok
from cli.doctor.run import Check, in_thread, run_checks
from contracts.errors import ErrorCode, SaccadeError
from tests.rules.tree import ROOT

pytestmark = pytest.mark.anyio


async def test_what_hangs_or_fails_is_told_and_the_others_go_on() -> None:
    never = threading.Event()
    together = asyncio.Barrier(3)

    async def hangs() -> list[ReportLine]:
        await together.wait()
        await in_thread(never.wait)
        return []

    async def fails() -> list[ReportLine]:
        await together.wait()
        raise SaccadeError(ErrorCode.STORAGE_UNAVAILABLE)

    async def works() -> list[ReportLine]:
        await together.wait()  # all three have begun
        return [ok("third", "well")]

    checks = [Check("first", hangs, 0.2), Check("second", fails), Check("third", works)]
    try:
        found = [finding async for finding in run_checks(checks)]
    finally:
        never.set()
    assert [(finding.check, finding.outcome) for finding in found] == [
        ("first", "FAIL"), ("second", "FAIL"), ("third", "ok"),
    ]  # fmt: skip
    assert "no result within 0.2 s" in found[0].says
    assert all(finding.fix for finding in found[:2])


async def test_an_unknown_error_is_one_line() -> None:
    async def breaks() -> list[ReportLine]:
        raise KeyError("x")

    (found,) = [finding async for finding in run_checks([Check("one", breaks)])]
    assert "KeyError" in found.says


async def test_before_anything_is_installed_the_command_says_what_is_missing() -> None:
    """Python without its packages: -S leaves them out, as a new interpreter has none."""
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv[:] = ['saccade', {{!r}}]\n"
    start += "import runpy; runpy.run_module('cli', run_name='__main__')"

    def run(word: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-S", "-c", start.format(word)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    done = await asyncio.to_thread(run, "doctor")
    assert done.returncode == 1
    assert "FAIL  packages: not installed: click, pydantic" in done.stdout
    assert "make install" in done.stdout
    assert done.stderr == ""
    done = await asyncio.to_thread(run, "jobs")
    assert done.returncode == 1
    assert "not_installed" in done.stderr
