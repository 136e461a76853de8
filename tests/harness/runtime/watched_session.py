"""A vision stream whose camera shows plain colours, and what its worker has said."""

from __future__ import annotations

import asyncio
import io
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

from PIL import Image

from contracts.assignment import Assignment
from contracts.events.base import EventData, decode
from contracts.events.session import (
    SessionAlert,
    SessionCancelRequested,
    SessionProgressed,
    SessionPromptRequested,
    SessionText,
)
from contracts.ids import new_id
from contracts.job import State
from contracts.streams import aggregate
from tests.harness.runtime.executor_environment import ExecutorHarness
from tests.harness.runtime.job_driver import TENANT, WAIT_S
from tests.harness.runtime.session_driver import SessionDriver
from tests.session_workers.describing.colour_model import COLOURS
from tests.session_workers.describing.spec import WORKLOAD

T = TypeVar("T", bound=EventData)


@cache
def picture(colour: str, size: tuple[int, int] = (64, 48)) -> bytes:
    """Return a JPEG of one colour; ``dark`` is black."""
    out = io.BytesIO()
    Image.new("RGB", size, COLOURS.get(colour, (0, 0, 0))).save(out, "JPEG")
    return out.getvalue()


@dataclass
class WatchedSession:
    """One session with the colour model."""

    harness: ExecutorHarness
    driver: SessionDriver = field(init=False)
    seq: int = 0

    def __post_init__(self) -> None:
        self.driver = SessionDriver(self.harness.driver)

    async def open(self, params: dict[str, Any], **more: Any) -> Assignment:
        return await self.driver.open(params, workload="describing", **more)

    async def launch(self, assignment: Assignment) -> str:
        executor = self.harness.made[-1] if self.harness.made else self.harness.executor()
        call = await executor.launch(assignment, WORKLOAD.compute)
        await self.driver.until_published("session.ready", assignment.attempt)
        return call

    async def show(self, colour: str, frames: int = 1, *, interval_s: float = 0.0) -> None:
        for _ in range(frames):
            await self.driver.frame(self.seq, picture(colour))
            self.seq += 1
            await asyncio.sleep(interval_s)

    async def ask(self, question: str, **more: Any) -> str:
        prompt = SessionPromptRequested(prompt_id=new_id("prm"), text=question, by="test", **more)
        await self.driver.say(prompt)
        return prompt.prompt_id

    async def cancel(self) -> None:
        await self.driver.say(SessionCancelRequested(by="test"))

    async def of(self, kind: type[T]) -> list[T]:
        """Return all durable events of a kind, in order."""
        history = self.driver.driver.store.history(0, aggregate(TENANT, "session", self.driver.session_id))
        parsed = [decode(stored.body) async for stored in history]
        return [kind.model_validate(event.data) for event in parsed if event.type == kind.type]

    async def texts(self) -> list[SessionText]:
        return await self.of(SessionText)

    async def alerts(self) -> list[SessionAlert]:
        return await self.of(SessionAlert)

    async def until_texts(self, true: Callable[[list[SessionText]], bool]) -> list[SessionText]:
        end = time.monotonic() + WAIT_S
        while not true(texts := await self.texts()):
            assert time.monotonic() < end, texts
            await asyncio.sleep(0.02)
        return texts

    async def figures(self) -> dict[str, Any]:
        """Return the newest figures; none before the first."""
        for stored in await self.driver.driver.progress.load(
            f"saccade.prog.{TENANT}.session.{self.driver.session_id}.progressed"
        ):
            return SessionProgressed.model_validate(decode(stored.body).data).figures
        return {}

    async def finish(self) -> dict[str, Any]:
        """Stop the session and return its result."""
        await self.driver.stop()
        job = await self.harness.driver.until(self.driver.job_id, State.SUCCEEDED)
        assert job.result is not None
        return job.result

    async def stored(self, name: str) -> bytes:
        return await self.harness.driver.bucket.get(self.harness.driver.bucket.key("results", self.driver.job_id, name))

    async def check_frames(self, texts: list[SessionText]) -> None:
        """Each frame has one verdict, and the accepted ones are those of the texts, each in one."""
        acks = await self.driver.acks()
        assert Counter(ack.seq for ack in acks) == Counter(range(self.seq))
        shown = [frame.seq for text in texts for frame in text.frames]
        assert shown == sorted(ack.seq for ack in acks if ack.status == "accepted")
        totals = await self.driver.totals()
        assert totals.sent == self.seq == totals.accepted + totals.dropped + totals.rejected
