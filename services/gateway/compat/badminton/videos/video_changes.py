"""Notices to open connections that a video has changed: its upload, its job, or the job's progress."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from contracts.events.base import Envelope
from contracts.job import Job


def of_video(video_id: str) -> str:
    """Return the topic of one video."""
    return f"video:{video_id}"


def of_tenant(tenant: str) -> str:
    """Return the topic of all videos of a tenant."""
    return f"tenant:{tenant}"


class VideoChanges:
    """The events that are set when something changes, by topic."""

    def __init__(self, job: Callable[[str], Job | None]) -> None:
        """``job`` returns a job as the view has it."""
        self._job = job
        self._listeners: dict[str, set[asyncio.Event]] = {}

    def watch(self, topics: Iterable[str], changed: asyncio.Event) -> None:
        """Set ``changed`` from now on when one of these topics changes."""
        for topic in topics:
            self._listeners.setdefault(topic, set()).add(changed)

    def unwatch(self, topics: Iterable[str], changed: asyncio.Event) -> None:
        """Set it no longer."""
        for topic in topics:
            listeners = self._listeners.get(topic, set())
            listeners.discard(changed)
            if not listeners:
                self._listeners.pop(topic, None)

    def notify(self, tenant: str, video_id: str) -> None:
        """Set the events of a video and of all videos of its tenant."""
        for topic in (of_video(video_id), of_tenant(tenant)):
            for changed in self._listeners.get(topic, ()):
                changed.set()

    def on_upload_event(self, envelope: Envelope) -> None:
        """Handle an event of an upload, after it was folded into the view."""
        self.notify(envelope.tenant, envelope.subject)

    def on_job_event(self, envelope: Envelope) -> None:
        """Handle an event of a job, after it was folded into the view."""
        self.on_progress(envelope.subject)

    def on_progress(self, job_id: str) -> None:
        """Handle progress of a job."""
        if not self._listeners or (job := self._job(job_id)) is None:
            return
        for inputs in job.submitted.inputs.values():
            for job_input in inputs:
                self.notify(job.tenant, job_input.upload_id)
