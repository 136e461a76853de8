"""Runs all checks at the same time, each with a deadline; one that fails or hangs stops no other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, TypeVar

from cli.doctor.report_line import ReportLine, fail
from cli.failure import Failure
from contracts.errors import SaccadeError

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

DEADLINE_S: Final = 15.0


@dataclass(frozen=True)
class Check:
    """One noun that is looked at."""

    name: str
    look: Callable[[], Awaitable[Sequence[ReportLine]]]
    deadline_s: float = DEADLINE_S


class _DaemonThreads(ThreadPoolExecutor):
    """One thread for each call, which the end of the process does not wait for.

    A look-up of a name, or a look at a folder of a dead network file system, may take minutes and cannot be cancelled.
    """

    def submit(
        self, fn: Callable[_Arguments, _Result], /, *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> Future[_Result]:
        """Call a function in a thread of its own."""
        future: Future[_Result] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
                future.set_exception(error)

        threading.Thread(target=call, name="doctor", daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for nothing."""


async def run_checks(checks: Sequence[Check]) -> AsyncIterator[ReportLine]:
    """Run the checks concurrently and yield what they found, in the order of the checks."""
    asyncio.get_running_loop().set_default_executor(_DaemonThreads(max_workers=1))
    tasks = [asyncio.create_task(_run(check)) for check in checks]
    for task in tasks:
        for finding in await task:
            yield finding


async def _run(check: Check) -> Sequence[ReportLine]:
    try:
        async with asyncio.timeout(check.deadline_s):
            return await check.look()
    except TimeoutError:
        says = f"no result within {check.deadline_s:g} s"
        return [fail(check.name, says, "Look at the network and the machine: what is asked here answers in a second.")]
    except Failure as failure:
        return [fail(check.name, failure.message, failure.hint or "See docs/doctor.md.")]
    except SaccadeError as error:
        return [fail(check.name, error.message, error.hint or "See docs/doctor.md.")]
    except Exception as error:  # noqa: BLE001 - any error is a failed check, and the others go on
        return [fail(check.name, f"the check ended with {type(error).__name__}: {error}", "See docs/doctor.md.")]


async def in_thread(function: Callable[..., _Result], *arguments: Any) -> _Result:
    """Call a function that blocks."""
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)
