"""Histories of many jobs and sessions of several tenants, stored in one order, with the states at any point of it.

The jobs are led by the dispatcher's own code on a market of GPUs; the sessions are drawn by chance.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from contracts import job as jobs
from contracts import session as sessions
from contracts.errors import ErrorBody, ErrorCode
from contracts.events.base import EventData, Message, decode, encode
from contracts.events.session import (
    FrameTotals,
    SessionAlert,
    SessionCancelRequested,
    SessionChunkExported,
    SessionFailed,
    SessionOpened,
    SessionPromptRequested,
    SessionReady,
    SessionResetRequested,
    SessionStarted,
    SessionStopped,
    SessionStopRequested,
    SessionText,
)
from contracts.ids import new_id
from contracts.manifest import Artifact
from kit.bus.event_store import EventStore
from services.whatif.virtual_time import run
from tests.harness.dispatch.gpu_market_run import run_market

_TENANTS = ("flood", "quiet0", "quiet1")
#: Publishes that wait for their acknowledgement at the same time.
_AT_ONCE = 100


@dataclass
class RandomHistory:
    """Events in the order in which they are stored, and where each was."""

    messages: list[Message]
    #: Sequence of each message once they are stored.
    sequences: list[int] = field(default_factory=list)

    async def store(self, store: EventStore) -> None:
        """Store all, in order."""
        for start in range(0, len(self.messages), _AT_ONCE):
            some = self.messages[start : start + _AT_ONCE]
            # One connection and one stream: they are stored in the order in which they are sent.
            self.sequences += await asyncio.gather(*(store.publish(message) for message in some))
        assert self.sequences == sorted(self.sequences)

    def subjects(self) -> list[tuple[str, str, str]]:
        """Return tenant, noun and id of everything that has events."""
        found = (message.subject.split(".")[2:5] for message in self.messages)
        return list(dict.fromkeys((tenant, noun, subject_id) for tenant, noun, subject_id in found))

    def as_of(self, tenant: str, noun: str, subject_id: str, sequence: int) -> Any:
        """Return what a job or session was: the fold of every event up to a sequence."""
        fold: Any = jobs.fold if noun == "job" else sessions.fold
        prefix, state = f"saccade.evt.{tenant}.{noun}.{subject_id}.", None
        for message, stored_at in zip(self.messages, self.sequences, strict=True):
            if stored_at <= sequence and message.subject.startswith(prefix):
                state = fold(state, decode(message.body), stored_at)
        return state


def random_history(seed: int, job_count: int, session_count: int) -> RandomHistory:
    """Return a history; called where no event loop runs, because the market has one of its own."""
    chance = random.Random(f"{seed} history")
    market = run(run_market(seed, job_count))
    stories = [_session_story(chance) for _ in range(session_count)]
    envelopes = [(stored.subject, decode(stored.body)) for stored in market.store.log]
    # The market's clock begins months ago, and views forget what ended before the stream's oldest event can be.
    shift = datetime.now(UTC) - max(envelope.time for _, envelope in envelopes)
    moved = [(subject, envelope.model_copy(update={"time": envelope.time + shift})) for subject, envelope in envelopes]
    ordered = [
        Message(subject, envelope.id, envelope.model_dump_json(exclude_none=True).encode())
        for subject, envelope in moved
    ]
    # Each session's events come in their order, between those of the others.
    for story in stories:
        places = sorted(chance.randrange(len(ordered) + 1) for _ in story)
        for shift, (place, message) in enumerate(zip(places, story, strict=True)):
            ordered.insert(place + shift, message)
    return RandomHistory(ordered)


def _session_story(chance: random.Random) -> Sequence[Message]:
    tenant, session_id, run_id = chance.choice(_TENANTS), new_id("ses"), new_id("run")
    opened = SessionOpened(workload="live_splat", workload_version="1", params={}, idle_timeout_s=9, max_length_s=9)
    story: list[EventData] = [opened, SessionReady(attempt=1, run_id=run_id, device="cpu")]
    asked: list[str] = []
    for number in range(chance.randrange(40)):
        totals = FrameTotals(sent=number, accepted=number)
        match chance.randrange(8):
            case 0:
                story.append(SessionStarted(run_id=run_id))
            case 1:
                asked.append(f"prm_{number}")
                story.append(SessionPromptRequested(prompt_id=asked[-1], text="What now?", by="test"))
            case 2:
                answered = asked.pop(0) if asked and chance.random() < 0.7 else None
                story.append(SessionText(run_id=run_id, chunk=number, text="It turns.", prompt_id=answered))
            case 3:
                alert = {
                    "alert": 1,
                    "rule": "door",
                    "condition": "open",
                    "chunk": number,
                    "confidence": 0.9,
                    "text": "",
                }
                story.append(SessionAlert(run_id=run_id, **alert))
            case 4:
                story.append(SessionResetRequested(by="test"))
            case 5:
                story.append(SessionCancelRequested(by="test"))
            case 6:
                story.append(SessionReady(attempt=2, run_id=run_id, device="cpu", resumed_from_chunk=number))
            case 7:
                name = f"chunk-{number}.ply"
                artifact = Artifact(name=name, key=f"results/{name}", bytes=3, sha256="a" * 64, media_type="x/ply")
                exported = {"chunk": number, "artifact": artifact, "totals": totals, "figures": {"splats": number}}
                story.append(SessionChunkExported(run_id=run_id, **exported))
    match chance.randrange(3):
        case 0:
            end = {"reason": "asked", "chunks": 1, "totals": FrameTotals(), "result": {}, "cost_usd": 0.5}
            story += [SessionStopRequested(by="test"), SessionStopped.model_validate(end)]
        case 1:
            error = ErrorBody(code=ErrorCode.WORKER_LOST, message="It is gone.", hint="")
            story.append(SessionFailed(error=error, cost_usd=0.25))
    return [encode(data, tenant=tenant, subject_id=session_id, source="/test") for data in story]
