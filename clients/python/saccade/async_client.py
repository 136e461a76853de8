"""The client for programs with an asyncio event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import PrivateAttr

from saccade.api import Api, Inputs, Since, failure_of, format_moment, job_body
from saccade.download import ArtifactDownload
from saccade.event_stream import SILENCE_S, EventStream
from saccade.events import Event
from saccade.sessions import AsyncSessionsClient
from saccade.transport import AsyncTransport, iterate_async
from saccade.upload import FileUpload, OnProgress
from saccade.views import ArtifactsView, JobView, Ticket, UploadView
from saccade.webhooks import AsyncWebhooksClient


class AsyncClient:
    """Talks to one server. Every method raises ``ClientError`` when the server refuses or cannot be reached.

    Files are read, written and hashed in threads.
    """

    def __init__(
        self, url: str, api_key: str | None = None, *, timeout_s: float = 30.0, silence_s: float = SILENCE_S
    ) -> None:
        """Use the server at ``url``; without a key it must be an embedded one.

        An answer may take ``timeout_s``; an event stream that is silent for ``silence_s`` is opened anew.
        """
        self._connection = AsyncTransport(url, api_key, timeout_s)
        self._api = Api(self._connection, silence_s)
        #: Where events are sent to by the server itself.
        self.webhooks = AsyncWebhooksClient(self._api)
        #: Live sessions.
        self.sessions = AsyncSessionsClient(self._api)

    async def __aenter__(self) -> AsyncClient:
        """Give itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self.close()

    @property
    def url(self) -> str:
        """Say where the server is."""
        return self._connection.url

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.close()

    async def health(self) -> dict[str, Any]:
        """Give the server's health, be it good or bad."""
        return await self._api.call("GET", "/health", accept_status=frozenset({503}))

    async def workloads(self) -> list[dict[str, Any]]:
        """List what the server can do."""
        return await self._api.workloads()

    async def upload(
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
        return await upload.run()

    async def submit(
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
    ) -> AsyncJob:
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
        return (await self._api.submit(AsyncJob, body, idempotency_key)).bound_to(self)

    async def job(self, job_id: str, *, wait_s: float | None = None) -> AsyncJob:
        """Read a job; ``wait_s`` lets the server answer only when it has ended, or after so many seconds (60)."""
        return (await self._api.job(AsyncJob, job_id, wait_s)).bound_to(self)

    def jobs(
        self,
        *,
        state: str | Sequence[str] | None = None,
        workload: str | None = None,
        since: str | datetime | None = None,
        until: str | datetime | None = None,
        page_size: int | None = None,
    ) -> AsyncIterator[AsyncJob]:
        """Iterate over jobs, newest first, reading page after page."""
        found = self._api.jobs(
            AsyncJob,
            state=state,
            workload=workload,
            since=format_moment(since),
            until=format_moment(until),
            limit=page_size,
        )
        return (job.bound_to(self) async for job in iterate_async(found))

    async def wait(self, job_id: str, *, timeout_s: float | None = None) -> AsyncJob:
        """Wait for a job's end, over restarts of the server, and give the job; it may have failed.

        Raises:
            WaitTimeoutError: it goes on after ``timeout_s``.
        """
        return (await self._api.wait(AsyncJob, job_id, timeout_s)).bound_to(self)

    async def cancel(self, job_id: str) -> AsyncJob:
        """Ask for a job's end."""
        return (await self._api.act(AsyncJob, job_id, "cancel")).bound_to(self)

    async def retry(self, job_id: str) -> AsyncJob:
        """Give a failed or cancelled job another attempt; its finished stages are kept."""
        return (await self._api.act(AsyncJob, job_id, "retry")).bound_to(self)

    async def artifacts(self, job_id: str) -> ArtifactsView:
        """Read what a job left behind."""
        return await self._api.artifacts(job_id)

    async def download(
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
        return await ArtifactDownload(self._api, job_id, Path(folder), on_progress, names).run()

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
    ) -> AsyncEvents:
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
        return AsyncEvents(stream)

    async def ticket(self, resource: str = "/v1/events") -> Ticket:
        """Get a ticket with which a browser's EventSource opens one event stream, given by its path."""
        return await self._api.post(Ticket, "/v1/tickets", json={"resource": resource})


class AsyncEvents(AsyncIterator[Event]):
    """AsyncEvents, one after the other; ``cursor`` is where to go on another time."""

    def __init__(self, stream: EventStream) -> None:
        """Connect when the first event is asked for."""
        self._stream = stream
        self._events = iterate_async(stream)

    async def __anext__(self) -> Event:
        """Wait for the next event."""
        return await self._events.__anext__()

    async def __aenter__(self) -> AsyncEvents:
        """Give itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the stream."""
        await self.close()

    @property
    def cursor(self) -> str | None:
        """Give the cursor of the newest durable event that was given out."""
        return self._stream.cursor

    async def close(self) -> None:
        """End the stream; leaving its loop does so too."""
        await self._events.aclose()


class AsyncJob(JobView):
    """A job as it was when it was read, and what can be done with it."""

    _client: AsyncClient = PrivateAttr()

    def bound_to(self, client: AsyncClient) -> AsyncJob:
        """Do by this client whatever is asked of the job."""
        self._client = client
        return self

    def events(self, *, types: Sequence[str] = (), cursor: str | None = None) -> AsyncEvents:
        """Iterate over the job's events from its first (or after ``cursor``) to its last, over any disconnect."""
        return self._client.events(self.id, types=types, cursor=cursor)

    async def refresh(self) -> AsyncJob:
        """Read the job as it is now."""
        return await self._client.job(self.id)

    async def wait(self, *, timeout_s: float | None = None) -> AsyncJob:
        """Wait for the job's end and give it as it ended."""
        return await self._client.wait(self.id, timeout_s=timeout_s)

    def raise_for_failure(self) -> AsyncJob:
        """Give the job itself.

        Raises:
            JobFailedError: it failed or was cancelled.
        """
        if failure := failure_of(self):
            raise failure
        return self

    async def cancel(self) -> AsyncJob:
        """Ask for the job's end."""
        return await self._client.cancel(self.id)

    async def retry(self) -> AsyncJob:
        """Give it another attempt, when it has failed or was cancelled."""
        return await self._client.retry(self.id)

    async def artifacts(self) -> ArtifactsView:
        """Read what it left behind."""
        return await self._client.artifacts(self.id)

    async def download(
        self, folder: Path | str, on_progress: OnProgress | None = None, *, names: Sequence[str] | None = None
    ) -> list[Path]:
        """Download its files into a folder."""
        return await self._client.download(self.id, folder, on_progress, names=names)
