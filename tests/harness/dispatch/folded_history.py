"""Random histories of everything that a dispatcher folds, and dispatchers without a bus that fold them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

from nats.aio.client import Client
from pydantic import SecretStr

from contracts.erasure import sha256_of
from contracts.errors import ErrorBody, ErrorCode
from contracts.events.base import EventData, encode
from contracts.events.erasure import ErasureCompleted
from contracts.events.job import JobArtifactReady, JobRetrying, JobSubmitted
from contracts.events.rule import (
    GroupClosed,
    GroupUploadAdded,
    JobRule,
    RuleCreated,
    RuleDefinition,
    RuleDeleted,
    RuleGroup,
    RuleSkipped,
    RuleUpdated,
)
from contracts.events.upload import UploadFailed
from contracts.ids import new_id
from contracts.manifest import Artifact
from kit.bucket import Bucket
from kit.bus.event_store import EventStore, StoredEvent
from kit.settings import S3Settings
from services.dispatcher.app import Dispatcher
from services.dispatcher.snapshots.dispatcher_fold import DispatcherFold
from services.whatif.virtual_time import run
from tests.harness.dispatch.dispatcher import settings
from tests.harness.dispatch.scripted_executor import ScriptedExecutor
from tests.harness.dispatch.varied_run import VARIED_WORKLOADS, run_varied
from tests.harness.rules.rule_events import EPOCH, completed

_TENANTS = ("acme", "beta")
_NOWHERE = S3Settings(
    endpoint_url="http://127.0.0.1:9", access_key_id="key", secret_access_key=SecretStr("secret"), bucket="none"
)


def random_fold_history(seed: int, jobs: int = 12, others: int = 150) -> list[StoredEvent]:
    """Return jobs, pipelines and budgets as dispatchers leave them, with rules, groups and what no version knows."""
    chance = random.Random(f"{seed} fold")
    stored = [(event.subject, event.body, event.timestamp) for event in run(run_varied(seed, jobs)).events]
    story = [(subject, body, "") for subject, body in _Rules(chance).events(others)]
    places = sorted(chance.randrange(len(stored) + 1) for _ in story)
    for shift, (place, event) in enumerate(zip(places, story, strict=True)):
        stored.insert(place + shift, event)
    events, sequence = [], 0
    for subject, body, timestamp in stored:
        sequence += chance.choice((1, 1, 1, 3))  # some were deleted
        events.append(StoredEvent(sequence, subject, body, timestamp=timestamp))
    return events


class _Rules:
    """Events of rules and groups, of their jobs and artifacts, and some that this version does not understand."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._rules: list[tuple[str, str]] = []
        self._uploads = [new_id("upl") for _ in range(12)]
        self._groups: list[tuple[str, str, str]] = []
        self._jobs: list[tuple[str, str]] = []

    def events(self, count: int) -> list[tuple[str, bytes]]:
        found: list[tuple[str, bytes]] = []
        while len(found) < count:
            if not self._rules or self._chance.random() < 0.1:
                found.append(self._made())
            else:
                found.append(self._chance.choice(self._MAKERS)(self))
        return found

    def _event(self, tenant: str, subject_id: str, data: EventData) -> tuple[str, bytes]:
        at = EPOCH + timedelta(seconds=self._chance.randrange(90_000))
        message = encode(data, tenant=tenant, subject_id=subject_id, source="/test", time=at)
        return message.subject, message.body

    def _definition(self) -> RuleDefinition:
        group = self._chance.choice((None, RuleGroup(by="metadata.pair", needs=2), RuleGroup(quiet_s=5)))
        return RuleDefinition(name="Rule", workload="laps", group=group, enabled=self._chance.random() < 0.8)

    def _made(self) -> tuple[str, bytes]:
        tenant, rule_id = self._chance.choice(_TENANTS), new_id("rul")
        self._rules.append((tenant, rule_id))
        return self._event(tenant, rule_id, RuleCreated(rule=self._definition(), made_by="key"))

    def _changed(self) -> tuple[str, bytes]:
        return self._event(*self._chance.choice(self._rules), RuleUpdated(rule=self._definition()))

    def _deleted(self) -> tuple[str, bytes]:
        if self._chance.random() < 0.7:
            return self._changed()
        return self._event(*self._chance.choice(self._rules), RuleDeleted())

    def _added(self) -> tuple[str, bytes]:
        tenant, rule_id = self._chance.choice(self._rules)
        if self._groups and self._chance.random() < 0.6:
            tenant, rule_id, group_id = self._chance.choice(self._groups)
        else:
            group_id = new_id("grp")
            self._groups.append((tenant, rule_id, group_id))
        number, upload_id = int(group_id[-4:], 16) % 50 + 1, self._chance.choice(self._uploads)
        data = GroupUploadAdded(rule_id=rule_id, value="a", number=number, upload_id=upload_id, count=1)
        return self._event(tenant, group_id, data)

    def _closed(self) -> tuple[str, bytes]:
        if not self._groups:
            return self._added()
        tenant, rule_id, group_id = self._chance.choice(self._groups)
        ids = tuple(self._chance.sample(self._uploads, 2))
        data = GroupClosed(rule_id=rule_id, reason="quiet", upload_ids=ids, job_id=new_id("job"))
        return self._event(tenant, group_id, data)

    def _skipped(self) -> tuple[str, bytes]:
        tenant, rule_id = self._chance.choice(self._rules)
        group_id = self._chance.choice(self._groups)[2] if self._groups and self._chance.random() < 0.5 else None
        error = ErrorBody(code=ErrorCode.RULE_LOOP, message="It is a circle.", hint="")
        return self._event(tenant, rule_id, RuleSkipped(upload_ids=("upl_a",), group_id=group_id, error=error))

    def _upload(self) -> tuple[str, bytes]:
        upload_id = self._chance.choice(self._uploads)
        error = ErrorBody(code=ErrorCode.UPLOAD_NOT_FOUND, message="Deleted.", hint="")
        data = completed() if self._chance.random() < 0.5 else UploadFailed(reason="deleted", error=error)
        return self._event(self._chance.choice(_TENANTS), upload_id, data)

    def _submitted(self) -> tuple[str, bytes]:
        tenant, rule_id = self._chance.choice(self._rules)
        job_id = new_id("job")
        self._jobs.append((tenant, job_id))
        group_id = self._chance.choice(self._groups)[2] if self._groups and self._chance.random() < 0.5 else None
        rule = JobRule(rule_id=rule_id, upload_ids=("upl_a",), group_id=group_id)
        fields: dict[str, Any] = {"workload": "laps", "workload_version": "1", "inputs": {}, "params": {"a": 0.1}}
        return self._event(tenant, job_id, JobSubmitted(**fields, rule=rule, deadline=EPOCH))

    def _artifact(self) -> tuple[str, bytes]:
        if not self._jobs:
            return self._submitted()
        sha256 = f"{self._chance.randrange(40):064x}"
        artifact = Artifact(name="a.json", key="results/a.json", bytes=3, sha256=sha256, media_type="application/json")
        tenant, job_id = self._chance.choice(self._jobs)
        return self._event(tenant, job_id, JobArtifactReady(attempt=1, run_id="run_a", artifact=artifact))

    def _retried(self) -> tuple[str, bytes]:
        """Return the retry of a job whose other events are gone."""
        data = JobRetrying(attempt=2, after="asked", delay_s=0, not_before=EPOCH, deadline=EPOCH)
        return self._event(self._chance.choice(_TENANTS), new_id("job"), data)

    def _erased(self) -> tuple[str, bytes]:
        upload = self._chance.random() < 0.5
        jobs = [] if upload or not self._jobs else [sha256_of(self._chance.choice(self._jobs)[1])]
        data = ErasureCompleted(
            scope="upload" if upload else "job",
            tenant_sha256=sha256_of("acme"),
            until_sequence=1,
            until_time=EPOCH,
            jobs_sha256=jobs,
            upload_sha256=sha256_of(self._chance.choice(self._uploads)) if upload else None,
        )
        return self._event("_system", new_id("ers"), data)

    def _newer(self) -> tuple[str, bytes]:
        """Return an event of a type, or with a field, of a later version; or one that cannot be read at all."""
        tenant, job_id = self._chance.choice(self._jobs) if self._jobs else ("acme", new_id("job"))
        kind = self._chance.choice(("job.teleported", "planet.found", "job.queued"))
        noun, _, verb = kind.partition(".")
        subject, body = f"saccade.evt.{tenant}.{noun}.{job_id}.{verb}", b"not an event"
        if self._chance.random() < 0.7:
            fields = {"specversion": "1.0", "id": new_id("evt"), "source": "/later", "time": EPOCH.isoformat()}
            data = {"position": 1, "colour": "blue"}
            body = json.dumps({**fields, "type": kind, "subject": job_id, "tenant": tenant, "data": data}).encode()
        return subject, body

    _MAKERS = (
        _changed, _deleted, _added, _added, _added, _closed, _skipped, _upload, _submitted, _artifact, _artifact,
        _retried, _erased, _newer,
    )  # fmt: skip


class UnconnectedDispatcher:
    """A dispatcher without a bus, which folds what it is given."""

    def __init__(self) -> None:
        client = Client()
        store = EventStore(client)
        executor = ScriptedExecutor(store, cast("Any", None))
        self.dispatcher = Dispatcher(
            client=client,
            store=store,
            bucket=Bucket(None, None, _NOWHERE),
            executor=executor,
            workloads=VARIED_WORKLOADS,
            settings=settings(),
        )

    @property
    def state(self) -> DispatcherFold:
        """What it has folded."""
        found = self.dispatcher
        return DispatcherFold(found.jobs, found.upload_rules.fold, found.notices.budgets)

    def fold(self, events: Iterable[StoredEvent]) -> None:
        """Fold events as the tail does, which goes on after one that cannot be handled."""
        for stored in events:
            try:
                self.dispatcher._on_stored(stored)
            except Exception:  # noqa: BLE001 - as the tail
                continue


def moved(events: list[StoredEvent], by: int) -> list[StoredEvent]:
    """Return events with other sequences."""
    return [replace(event, sequence=event.sequence + by) for event in events]
