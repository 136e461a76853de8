"""The client for programs that wait for each answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import PrivateAttr

from saccade.api import Api, Inputs, Since, failure_of, format_moment, job_body
from saccade.download import ArtifactDownload
from saccade.event_stream import SILENCE_S, EventStream
from saccade.events import Event
from saccade.sessions import SessionsClient
from saccade.transport import BlockingTransport, iterate, run_blocking
from saccade.upload import FileUpload, OnProgress
from saccade.views import ArtifactsView, JobView, Ticket, UploadView
from saccade.webhooks import WebhooksClient


class Client:
    """Talks to one server. Every method raises ``ClientError`` when the server refuses or cannot be reached.

    It may be used by several threads at once, an iteration by one.
    """

    def __init__(
        self, url: str, api_key: str | None = None, *, timeout_s: float = 30.0, silence_s: float = SILENCE_S
    ) -> None:
        """Use the server at ``url``; without a key it must be an embedded one.

        An answer may take ``timeout_s``; an event stream that is silent for ``silence_s`` is opened anew.
        """
        self._connection = BlockingTransport(url, api_key, timeout_s)
        self._api = Api(self._connection, silence_s)
        #: Where events are sent to by the server itself.
        self.webhooks = WebhooksClient(self._api)
        #: Live sessions.
        self.sessions = SessionsClient(self._api)

    def __enter__(self) -> Client:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    @property
    def url(self) -> str:
        """Say where the server is."""
        return self._connection.url

    def close(self) -> None:
        """Close the connections."""
        run_blocking(self._connection.close())

    def health(self) -> dict[str, Any]:
        """Give the server's health, be it good or bad."""
        return run_blocking(self._api.call("GET", "/health", accept_status=frozenset({503})))

    def workloads(self) -> list[dict[str, Any]]:
        """List what the server can do."""
        return run_blocking(self._api.workloads())

    def upload(
        self,
        path: Path | str,
        on_progress: OnProgress | None = None,
        *,
        content_type: str | None = None,
        state_dir: Path | None = None,
        multipart: bool | None = None,
    ) -> UploadView:
        """Upload a file and complete it: by one PUT, or in parts where it is large or ``multipart`` says so.

        ``on_progress`` is called with bytes done and bytes in all. With ``state_dir`` an interrupted upload in parts
        goes on where it stopped when the same file (path, size, modification time) is uploaded again.
        """
        upload = FileUpload(
            self._api, Path(path), on_progress, content_type=content_type, state_dir=state_dir, multipart=multipart
        )
        return run_blocking(upload.run())

    def submit(
        self,
        workload: str,
        inputs: Inputs,
        params: Mapping[str, Any] | None = None,
        *,
        priority: int | None = None,
        max_cost_usd: float | None = None,
        gpu: str | None = None,
        metadata: Mapping[str, str] | None = None,
        webhook_url: str | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Submit a job; it is stored when this returns, and only once however often the request was tried.

        Inputs are uploads or their ids. Give ``idempotency_key`` to be safe over a restart of your own program too.
        """
        body = job_body(
            workload,
            inputs,
            params,
            priority=priority,
            max_cost_usd=max_cost_usd,
            gpu=gpu,
            metadata=metadata and dict(metadata),
            webhook_url=webhook_url,
        )
        return run_blocking(self._api.submit(Job, body, idempotency_key)).bound_to(self)

    def job(self, job_id: str, *, wait_s: float | None = None) -> Job:
        """Read a job; ``wait_s`` lets the server answer only when it has ended, or after so many seconds (60)."""
        return run_blocking(self._api.job(Job, job_id, wait_s)).bound_to(self)

    def jobs(
        self,
        *,
        state: str | Sequence[str] | None = None,
        workload: str | None = None,
        since: str | datetime | None = None,
        until: str | datetime | None = None,
        page_size: int | None = None,
    ) -> Iterator[Job]:
        """Iterate over jobs, newest first, reading page after page."""
        found = self._api.jobs(
            Job, state=state, workload=workload, since=format_moment(since), until=format_moment(until), limit=page_size
        )
        return (job.bound_to(self) for job in iterate(found))

    def wait(self, job_id: str, *, timeout_s: float | None = None) -> Job:
        """Wait for a job's end, over restarts of the server, and give the job; it may have failed.

        Raises:
            WaitTimeoutError: it goes on after ``timeout_s``.
        """
        return run_blocking(self._api.wait(Job, job_id, timeout_s)).bound_to(self)

    def cancel(self, job_id: str) -> Job:
        """Ask for a job's end."""
        return run_blocking(self._api.act(Job, job_id, "cancel")).bound_to(self)

    def retry(self, job_id: str) -> Job:
        """Give a failed or cancelled job another attempt; its finished stages are kept."""
        return run_blocking(self._api.act(Job, job_id, "retry")).bound_to(self)

    def artifacts(self, job_id: str) -> ArtifactsView:
        """Read what a job left behind."""
        return run_blocking(self._api.artifacts(job_id))

    def download(
        self,
        job_id: str,
        folder: Path | str,
        on_progress: OnProgress | None = None,
        *,
        names: Sequence[str] | None = None,
    ) -> list[Path]:
        """Download a job's artifacts (or those named) into a folder, each checked against its SHA-256.

        All of them come with the manifest, which says what each is. What an interrupted download left is gone on with.
        """
        return run_blocking(ArtifactDownload(self._api, job_id, Path(folder), on_progress, names).run())

    def events(
        self,
        job_id: str | None = None,
        *,
        session_id: str | None = None,
        types: Sequence[str] = (),
        subject: str | Sequence[str] | None = None,
        since: Since | None = None,
        cursor: str | None = None,
        follow: bool = True,
    ) -> Events:
        """Iterate over the events of a job, a session or (with neither) the tenant, each once, over any disconnect.

        A job's stream has its whole history and ends with the job; a tenant's starts now, or at ``since`` (a cursor,
        a time, or seconds ago), and ends only without ``follow``. ``cursor`` is the last event known; ``types`` are
        like ``job.succeeded`` or ``job.*``. A ``Gap`` says that events were lost to retention.
        """
        stream = self._api.events(
            job_id=job_id,
            session_id=session_id,
            types=types,
            subject=subject,
            since=since,
            cursor=cursor,
            follow=follow,
        )
        return Events(stream)

    def ticket(self, resource: str = "/v1/events") -> Ticket:
        """Get a ticket with which a browser's EventSource opens one event stream, given by its path."""
        return run_blocking(self._api.post(Ticket, "/v1/tickets", json={"resource": resource}))


class Events(Iterator[Event]):
    """Events, one after the other; ``cursor`` is where to go on another time."""

    def __init__(self, stream: EventStream) -> None:
        """Connect when the first event is asked for."""
        self._stream = stream
        self._events = iterate(stream)

    def __next__(self) -> Event:
        """Wait for the next event."""
        return next(self._events)

    def __enter__(self) -> Events:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the stream."""
        self.close()

    @property
    def cursor(self) -> str | None:
        """Give the cursor of the newest durable event that was given out."""
        return self._stream.cursor

    def close(self) -> None:
        """End the stream; leaving its loop does so too."""
        self._events.close()


class Job(JobView):
    """A job as it was when it was read, and what can be done with it."""

    _client: Client = PrivateAttr()

    def bound_to(self, client: Client) -> Job:
        """Do by this client whatever is asked of the job."""
        self._client = client
        return self

    def events(self, *, types: Sequence[str] = (), cursor: str | None = None) -> Events:
        """Iterate over the job's events from its first (or after ``cursor``) to its last, over any disconnect."""
        return self._client.events(self.id, types=types, cursor=cursor)

    def refresh(self) -> Job:
        """Read the job as it is now."""
        return self._client.job(self.id)

    def wait(self, *, timeout_s: float | None = None) -> Job:
        """Wait for the job's end and give it as it ended."""
        return self._client.wait(self.id, timeout_s=timeout_s)

    def raise_for_failure(self) -> Job:
        """Give the job itself.

        Raises:
            JobFailedError: it failed or was cancelled.
        """
        if failure := failure_of(self):
            raise failure
        return self

    def cancel(self) -> Job:
        """Ask for the job's end."""
        return self._client.cancel(self.id)

    def retry(self) -> Job:
        """Give it another attempt, when it has failed or was cancelled."""
        return self._client.retry(self.id)

    def artifacts(self) -> ArtifactsView:
        """Read what it left behind."""
        return self._client.artifacts(self.id)

    def download(
        self, folder: Path | str, on_progress: OnProgress | None = None, *, names: Sequence[str] | None = None
    ) -> list[Path]:
        """Download its files into a folder."""
        return self._client.download(self.id, folder, on_progress, names=names)
