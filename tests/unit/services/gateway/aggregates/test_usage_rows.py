"""What a tenant uses now is counted rightly, and read from indexes alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contracts.events.job import JobSubmitted, PartOf
from contracts.events.session import SessionOpened
from contracts.events.upload import MediaFacts, UploadCompleted, UploadCreated
from contracts.ids import new_id
from contracts.job import Job, State
from contracts.session import Session, SessionState
from contracts.upload import Upload, UploadState
from services.gateway.aggregates.view import GatewayView

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def view(tmp_path: Path) -> Iterator[GatewayView]:
    opened = GatewayView(tmp_path)
    yield opened
    opened.close()


def upload(tenant: str, declared_bytes: int, state: UploadState, stored_bytes: int = 0, reserved: int = 0) -> Upload:
    upload_id = new_id("upl")
    created = UploadCreated(
        key=f"uploads/{tenant}/{upload_id}/a.mp4",
        filename="a.mp4",
        content_type="video/mp4",
        size_bytes=declared_bytes,
        reserved_bytes=reserved,
    )
    media = MediaFacts(media="image", container="jpeg", codec="mjpeg", width_px=4, height_px=3)
    completed = UploadCompleted(size_bytes=stored_bytes, sha256="ab" * 32, media=media) if stored_bytes else None
    return Upload(id=upload_id, tenant=tenant, created=created, created_at=NOW, state=state, completed=completed)


def job(tenant: str, state: State, pipeline: str | None = None) -> Job:
    part_of = PartOf(job_id=pipeline, stage="a", shard=0, shards=1) if pipeline else None
    submitted = JobSubmitted(
        workload="nerf", workload_version="1", inputs={}, params={}, deadline=NOW + timedelta(hours=1), part_of=part_of
    )
    return Job(
        id=new_id("job"), tenant=tenant, submitted=submitted, created_at=NOW, state=state, first_sequence=1, sequence=1
    )


def session(tenant: str, state: SessionState) -> Session:
    opened = SessionOpened(
        workload="live_splat", workload_version="1", params={}, idle_timeout_s=60.0, max_length_s=600.0
    )
    return Session(
        id=new_id("ses"), tenant=tenant, opened=opened, created_at=NOW, first_sequence=1, sequence=1, updated_at=NOW,
        state=state,
    )  # fmt: skip


def test_what_a_tenant_uses(view: GatewayView) -> None:
    for kept in (
        upload("ann", 70, UploadState.CREATED),
        upload("ann", 5, UploadState.CREATED),
        upload("ann", 10, UploadState.COMPLETED, stored_bytes=10),
        upload("ann", 0, UploadState.COMPLETED, stored_bytes=300),  # fetched from a URL: its size was not declared
        upload("ann", 0, UploadState.CREATED, reserved=2_000),  # its client does not say the size
        upload("ann", 0, UploadState.COMPLETED, stored_bytes=4_000, reserved=9_000),
        upload("ann", 0, UploadState.FAILED, reserved=9_000),
        upload("ann", 9_000, UploadState.FAILED),
        upload("bob", 1_000, UploadState.CREATED),
    ):
        view.keep_upload(kept)
    pipeline = job("ann", State.RUNNING)
    jobs = [pipeline, job("ann", State.QUEUED), job("ann", State.FAILED), job("bob", State.QUEUED)]
    for kept_job in [*jobs, job("ann", State.RUNNING, pipeline.id)]:
        view.keep_job(kept_job)
    sessions = [session("ann", SessionState.READY), session("ann", SessionState.STOPPED)]
    for kept_session in sessions:
        view.keep_session(kept_session)
    assert view.usage.upload_bytes("ann", UploadState.CREATED) == 2_075
    assert view.usage.upload_bytes("ann", UploadState.COMPLETED) == 4_310
    assert view.usage.upload_bytes("nobody", UploadState.CREATED) == 0
    assert view.usage.unfinished_jobs("ann") == 2
    assert view.usage.unfinished_sessions("ann") == 1
    view.keep_session(replace(sessions[0], state=SessionState.STOPPED))
    assert view.usage.unfinished_sessions("ann") == 0


def test_it_is_read_from_indexes_alone(view: GatewayView, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Any]] = []
    rows = view._file.rows

    def noted(query: str, values: Any = ()) -> Any:
        asked.append((query, values))
        return rows(query, values)

    monkeypatch.setattr(view._file, "rows", noted)
    view.usage.unfinished_jobs("ann")
    view.usage.unfinished_sessions("ann")
    view.usage.upload_bytes("ann", UploadState.COMPLETED)
    for (query, values), index in zip(asked, ("jobs_by_state", "sessions_unfinished", "uploads_by_size"), strict=True):
        ((_, _, _, step),) = rows(f"EXPLAIN QUERY PLAN {query}", values)
        assert f"USING COVERING INDEX {index} " in step, step


def test_a_view_of_an_earlier_version_is_replaced(tmp_path: Path) -> None:
    view = GatewayView(tmp_path)
    view.close()
    with closing(sqlite3.connect(tmp_path / "view.sqlite3")) as file:
        file.execute("DROP INDEX uploads_by_size")
        file.execute("ALTER TABLE uploads DROP COLUMN size_bytes")
        file.execute("PRAGMA user_version = 7")
    view = GatewayView(tmp_path)
    view.keep_upload(upload("ann", 70, UploadState.CREATED))
    assert view.usage.upload_bytes("ann", UploadState.CREATED) == 70
    view.close()
