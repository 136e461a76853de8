"""A run of a live session's worker with credentials of that run alone: by the code that workers have, and by hand."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import nkeys
from nats.aio.client import Client, RawCredentials

from contracts.assignment import Assignment
from contracts.events.base import Message, encode
from contracts.events.session import FrameTotals, SessionOpened, SessionProgressed, SessionStopRequested
from contracts.ids import new_id
from contracts.session import Session, job_id_of_session, telemetry_subject
from contracts.telemetry import FrameAck
from contracts.worker_rights import session_run_grant
from kit.auth.bus_token import BusToken, credentials, sign
from kit.bus.connection import connect
from kit.bus.event_store import EventStore
from kit.tasks import end
from modal_workers.runtime.bus.nats_bus import CredentialNatsBus
from modal_workers.runtime.sessions.session_bus import SessionBus
from modal_workers.runtime.sessions.session_history import SessionHistory
from modal_workers.runtime.sessions.telemetry_tail import TelemetryMessage
from tests.harness.servers.embedded import OperatorNats

TENANT = "acme"


@dataclass
class Run:
    """One run of a session's worker, by the code that workers have, and by hand."""

    server: OperatorNats
    session_id: str = field(default_factory=lambda: new_id("ses"))
    replay_of: str | None = None
    run_id: str = field(default_factory=lambda: new_id("run"))

    @property
    def job_id(self) -> str:
        return job_id_of_session(self.session_id)

    @property
    def assignment(self) -> Assignment:
        return Assignment(
            job_id=self.job_id, tenant=TENANT, workload="watching", attempt=1, run_id=self.run_id, device="cpu",
            usd_per_s=0.0, params={}, inputs={},
        )  # fmt: skip

    def token(self, without: str | None = None) -> BusToken:
        """Return the token, or one that lacks a right."""
        token = self.server.tokens.issue(session_run_grant(TENANT, self.session_id, self.run_id, self.replay_of), 600.0)
        if without is None:
            return token
        body = token.jwt.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        for kind in ("pub", "sub"):
            claims["nats"][kind]["allow"] = [one for one in claims["nats"][kind]["allow"] if one != without]
        key = nkeys.from_seed(bytearray((self.server.keys / "workers.seed").read_text().strip().encode()))
        return replace(token, jwt=sign(claims, key))

    @asynccontextmanager
    async def working(self, without: str | None = None) -> AsyncIterator[Worker]:
        said: list[str] = []
        client = await connect(self.server.settings_of(self.token(without)), "run", said.append)
        job = CredentialNatsBus(client, self.assignment, asyncio.get_running_loop().create_future())
        try:
            yield Worker(self, client, job, SessionBus(job, self.assignment, f"/worker/{self.run_id}"), said)
        finally:
            await client.close()

    @asynccontextmanager
    async def thief(self) -> AsyncIterator[Thief]:
        thief, token = Thief(), self.token()
        creds = RawCredentials(credentials(token.jwt, token.seed.get_secret_value()))
        inbox = token.inbox_prefix.encode()
        await thief.client.connect(
            self.server.url, user_credentials=creds, inbox_prefix=inbox, error_cb=thief.on_error, closed_cb=thief.on_end
        )
        yield thief
        if not thief.client.is_closed:
            await thief.client.close()


class Thief:
    """A connection by nats-py as it comes, and what the server has refused on it."""

    def __init__(self) -> None:
        self.client = Client()
        self.refused: list[str] = []
        self.ended = asyncio.Event()

    async def on_error(self, error: Exception) -> None:
        self.refused.append(str(error).lower())

    async def on_end(self) -> None:
        self.ended.set()

    async def is_refused(self, act: Callable[[], Awaitable[Any]]) -> bool:
        before = len(self.refused)
        await act()
        await self.client.flush()
        for _ in range(100):
            if len(self.refused) > before:
                return "permissions violation" in self.refused[-1]
            await asyncio.sleep(0.01)
        return False


async def sent(services: Client, session_id: str, *bodies: bytes) -> None:
    for body in bodies:
        await services.jetstream().publish(telemetry_subject(TENANT, session_id, "frames"), body)


def opened(session_id: str) -> Message:
    data = SessionOpened(workload="watching", workload_version="1", params={}, idle_timeout_s=9, max_length_s=9)
    return encode(data, tenant=TENANT, subject_id=session_id, source="/gateway")


@dataclass
class Worker:
    """A run's worker, without what it works on."""

    run: Run
    client: Client
    job: CredentialNatsBus
    session: SessionBus
    #: What the server has refused.
    refused: list[str]
    heard: list[TelemetryMessage] = field(default_factory=list)
    states: list[Session] = field(default_factory=list)

    async def live(self, services: Client) -> None:
        """Do all that a session's worker does with the bus."""
        await self.job.load()
        grant = session_run_grant(TENANT, self.run.session_id, self.run.run_id, self.run.replay_of)
        for subject in grant.publish:
            if subject.startswith(("saccade.evt.", "saccade.prog.")):
                await self.client.jetstream(timeout=1).publish(subject, b"{}")
        ack = FrameAck(source="camera", seq=1, status="accepted", age_s=0.0, queue_depth=0)
        [(telemetry, progress)] = self.session.encode_acks([ack], FrameTotals(sent=1, accepted=1))
        await self.session.publish_acks(telemetry, progress)
        await self.session.publish_figures(SessionProgressed(run_id=self.run.run_id, totals=FrameTotals(), figures={}))
        if self.run.replay_of:
            await self.session.read_recorded(self.run.replay_of, self.heard.append)
        await self.session.serve_clock()
        history = SessionHistory(self.session.subjects)

        def on_event(message: TelemetryMessage) -> None:
            history.add(message)
            if history.session is not None:
                self.states.append(history.session)

        ways = (self.session.follow(self.heard.append, 0), self.session.follow_events(on_event))
        following = [asyncio.ensure_future(way) for way in ways]
        try:
            while not any(one.body == b"own" for one in self.heard) or not self.states:
                await asyncio.sleep(0.02)
            told = len(self.states)
            asked = encode(
                SessionStopRequested(by="user"), tenant=TENANT, subject_id=self.run.session_id, source="/gateway"
            )
            await EventStore(services).publish(asked)
            while not any(state.stop_requested for state in self.states[told:]):
                await asyncio.sleep(0.01)
        finally:
            for task in following:
                await end(task)
