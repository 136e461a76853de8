"""Deadlines of tests: a test that hangs fails by its name, and the tests after it run.

pytest-timeout raises in the main thread, out of the event loop. The test's coroutine stays where it waits, and the
finalizers of its fixtures, which anyio runs in the same task, wait behind it for ever: a run of CI ended so after 90
minutes and named no test. So a coroutine has a deadline of its own, before that of pytest-timeout, and is cancelled in
its task. A phase that does not end by either ends its process, with the stack of each thread on standard error:
pytest-xdist reports the test and starts another process for the others.
"""

from __future__ import annotations

import faulthandler
import functools
import inspect
import os
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import anyio
import pytest

#: Share of a test's timeout after which its coroutine is cancelled; the rest is for the fixtures.
_SHARE_OF_COROUTINE = 0.75
#: Share of a test's timeout after which its process ends.
_SHARE_OF_PROCESS = 1.2


def with_deadline(
    test: Callable[..., Coroutine[Any, Any, None]], seconds: float
) -> Callable[..., Coroutine[Any, Any, None]]:
    """Return a test's coroutine function that is cancelled after some time.

    Raises:
        TimeoutError: by the coroutine; its cause says where it waited.
    """

    @functools.wraps(test)
    async def limited(*arguments: Any, **keywords: Any) -> None:
        with anyio.fail_after(seconds):
            await test(*arguments, **keywords)

    return limited


class Deadlines:
    """Plug-in that ends what pytest-timeout does not end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        # Of a descriptor that pytest's capture does not replace.
        self._stderr = os.dup(2)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Generator[None, object, object]:
        """Set the deadline of a coroutine."""
        original = pyfuncitem.obj
        if inspect.iscoroutinefunction(original):
            pyfuncitem.obj = with_deadline(original, _SHARE_OF_COROUTINE * self._timeout_s(pyfuncitem))
        try:
            return (yield)
        finally:
            pyfuncitem.obj = original

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, None, None]:
        """Watch the fixtures."""
        return (yield from self._watched(item))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        """Watch the test."""
        return (yield from self._watched(item))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, None, None]:
        """Watch the finalizers; pytest stops its own watch of a test that has failed."""
        return (yield from self._watched(item))

    def _watched(self, item: pytest.Item) -> Generator[None, None, None]:
        faulthandler.dump_traceback_later(_SHARE_OF_PROCESS * self._timeout_s(item), exit=True, file=self._stderr)
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _timeout_s(self, item: pytest.Item) -> float:
        marker = item.get_closest_marker("timeout")
        given = self._config.getoption("timeout") or self._config.getini("timeout")
        return float(marker.args[0] if marker else given)
