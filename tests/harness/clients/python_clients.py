"""Both Python clients behind one interface: the blocking one runs in a thread, so that a test is written once."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

from pydantic import BaseModel
from saccade_client import AsyncClient, Client
from saccade_client.budgets import BudgetsClient
from saccade_client.job_plans import JobPlansClient
from saccade_client.rules import RulesClient
from saccade_client.webhooks import WebhooksClient

CLIENT_KINDS: Final = ("blocking", "asyncio")

#: Opens a client of either kind; what it gives is used as an ``AsyncClient`` is.
Open = Callable[..., contextlib.AbstractAsyncContextManager[AsyncClient]]


def opener(face: str) -> Open:
    """Return the function that opens clients of a kind."""
    return AsyncClient if face == "asyncio" else _blocking


@contextlib.asynccontextmanager
async def _blocking(*given: Any, **options: Any) -> AsyncIterator[Any]:
    client = Client(*given, **options)
    try:
        yield InThread(client)
    finally:
        client.close()


class InThread:
    """Awaitable wrapper of a blocking object; results are wrapped too."""

    def __init__(self, thing: Any) -> None:
        self._thing = thing

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._thing, name)
        if isinstance(found, BudgetsClient | JobPlansClient | RulesClient | WebhooksClient):
            return InThread(found)
        if not inspect.ismethod(found):
            return found
        if name == "raise_for_failure":
            return lambda: _wrapped(found())
        if name in ("events", "jobs", "deliveries") or (name == "all" and isinstance(self._thing, RulesClient)):
            return lambda *given, **options: Iteration(found(*given, **options))

        async def call(*given: Any, **options: Any) -> Any:
            return _wrapped(await asyncio.to_thread(found, *given, **options))

        return call


class Iteration:
    """Asynchronous wrapper of a blocking iterator."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items

    def __aiter__(self) -> Iteration:
        return self

    async def __anext__(self) -> Any:
        item = await asyncio.to_thread(next, self._items, None)
        if item is None:
            raise StopAsyncIteration
        return _wrapped(item)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._items, name)
        return InThread(self._items).close if name == "close" else found


def _wrapped(value: Any) -> Any:
    return InThread(value) if isinstance(value, BaseModel) and hasattr(value, "bound_to") else value
