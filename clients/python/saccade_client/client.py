# Generated from async_client.py by clients/python/generate_sync.py; do not edit.
"""Client of a Saccade server for blocking programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import PrivateAttr

from saccade_client.api import Api, failure_of
from saccade_client.budgets import BudgetsClient
from saccade_client.check_view import JobCheckView, JobCountsView, dry_run
from saccade_client.dead_letters import DeadLettersClient
from saccade_client.download import ArtifactDownload
from saccade_client.erasures import ErasuresClient
from saccade_client.event_stream import SILENCE_S, EventStream
from saccade_client.events import Event
from saccade_client.history_views import ChangesView, IncompleteView
from saccade_client.job_plans import JobPlansClient
from saccade_client.replays import ReplaysClient
from saccade_client.request_parts import Inputs, Since, format_moment, job_body, job_path, without_none
from saccade_client.rules import RulesClient
from saccade_client.sessions import SessionsClient
from saccade_client.transport import BlockingTransport, iterate, run_blocking
from saccade_client.upload import FileUpload, OnProgress
from saccade_client.url_upload import fetch_url
from saccade_client.views import ArtifactsView, JobView, Ticket, UploadView
from saccade_client.webhooks import WebhooksClient


class Client:
    """Client of one server. Every method raises ``ClientError`` when the server refuses or cannot be reached.

    Several threads may share it; an iterator belongs to one thread.
    """

    def __init__(
        self, url: str, api_key: str | None = None, *, timeout_s: float = 30.0, silence_s: float = SILENCE_S
    ) -> None:
        """Use the server at ``url``; only an embedded server works without a key.

        Args:
            url: address of the server.
            api_key: the API key.
            timeout_s: longest wait for an answer.
            silence_s: an event stream that is silent for so long is reconnected.
        """
        self._transport = BlockingTransport(url, api_key, timeout_s)
        self._api = Api(self._transport, silence_s)
        #: Webhook endpoints and their deliveries.
        self.webhooks = WebhooksClient(self._api)
        #: Upload rules.
        self.rules = RulesClient(self._api)
        #: What workers may cost.
        self.budgets = BudgetsClient(self._api)
        #: What was given up, for operators.
        self.dead_letters = DeadLettersClient(self._api)
        self.erasures = ErasuresClient(self._api)
        self.job_plans = JobPlansClient(self._api)
        #: Events of the past, sent again.
        self.replays = ReplaysClient(self._api)
        #: Live sessions.
        self.sessions = SessionsClient(self._api)

    def __enter__(self) -> Client:
        """Return the client."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    @property
    def url(self) -> str:
        """The server's address."""
        return self._transport.url

    def close(self) -> None:
        """Close the connections."""
        run_blocking(self._transport.close())

    def health(self) -> dict[str, Any]:
        """Return the server's health report, also when it is degraded; any other answer is a ``ClientError``."""
        return run_blocking(self._api.health())

    def workloads(self) -> list[dict[str, Any]]:
        """List the server's workloads with their schemas."""
        return run_blocking(self._api.workloads())

    def upload(
        self,
        path: Path | str,
        on_progress: OnProgress | None = None,
        *,
        content_type: str | None = None,
        state_dir: Path | None = None,
        multipart: bool | None = None,
        metadata: Mapping[str, str] | None = None,
        from_job: str | None = None,
        idempotency_key: str | None = None,
    ) -> UploadView:
        """Upload a file: with one PUT, or in parts if the file is large or ``multipart`` is set.

        ``on_progress`` is called with the bytes done and the bytes in total. With ``state_dir`` an interrupted
        multipart upload resumes when the same file (path, size, modification time) is uploaded again. Rules match on
        ``metadata``; ``from_job`` is the job whose result the file is. The same ``idempotency_key`` and file give the
        same upload.
        """
        upload = FileUpload(
            self._api,
            Path(path),
            on_progress,
            content_type=content_type,
            state_dir=state_dir,
            multipart=multipart,
            metadata=metadata,
            from_job=from_job,
            key=idempotency_key,
        )
        return run_blocking(upload.run())

    def upload_url(
        self,
        url: str,
        on_progress: OnProgress | None = None,
        *,
        filename: str | None = None,
        metadata: Mapping[str, str] | None = None,
        from_job: str | None = None,
        idempotency_key: str | None = None,
    ) -> UploadView:
        """Create an upload that the server fetches from a URL, if it allows that, and wait until it is checked.

        ``on_progress`` is called with bytes done and in total, 0 if unknown. The same key and URL give the same upload.
        """
        origin: dict[str, Any] = {"filename": filename, "metadata": metadata, "from_job": from_job}
        return run_blocking(fetch_url(self._api, url, on_progress, **origin, key=idempotency_key))

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
        retry_of: str | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Submit a job; it is stored when this returns, and only once however often the request was sent.

        Inputs are uploads or their ids. Pass ``idempotency_key`` to submit once over restarts of your program too.
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
            retry_of=retry_of,
        )
        return run_blocking(self._api.submit(Job, body, idempotency_key)).bound_to(self)

    def check(
        self,
        workload: str,
        params: Mapping[str, Any] | None = None,
        *,
        inputs: Inputs | None = None,
        priority: int | None = None,
        max_cost_usd: float | None = None,
        gpu: str | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        partial: bool = True,
    ) -> JobCheckView:
        """Validate a job and estimate its cost; nothing is stored, and ``inputs`` may be incomplete.

        Without ``partial``, the server refuses what it would refuse of ``submit``, for the same reason.
        """
        options = {"priority": priority, "max_cost_usd": max_cost_usd, "gpu": gpu, "metadata": metadata}
        body = job_body(workload, inputs or {}, params, **options)
        return run_blocking(
            self._api.post(JobCheckView, "/v1/jobs", json=body, params=dry_run(partial=partial), key=idempotency_key)
        )

    def job(self, job_id: str, *, wait_s: float | None = None, at: Since | None = None) -> Job:
        """Read a job; with ``wait_s`` the server answers when it has ended or after so many seconds (60 at most).

        With ``at``, a cursor, a time or seconds ago, the job as it was then.
        """
        return run_blocking(self._api.job(Job, job_id, wait_s, at=at)).bound_to(self)

    def job_changes(self, job_id: str, since: Since, until: Since | None = None) -> ChangesView:
        """Return what changed of a job between two points of the history, with the events and the cost in between.

        A point is a cursor, a time or seconds ago; without ``until`` it is now.
        """
        return run_blocking(self._api.changes(job_path(job_id), since, until))

    def jobs(
        self,
        *,
        state: str | Sequence[str] | None = None,
        workload: str | None = None,
        rule: str | None = None,
        text: str | None = None,
        plan: str | None = None,
        since: str | datetime | None = None,
        until: str | datetime | None = None,
        at: Since | None = None,
        page_size: int | None = None,
        on_incomplete: Callable[[IncompleteView], object] | None = None,
    ) -> Iterator[Job]:
        """Iterate over jobs, newest first, page by page; ``rule`` is the id of the rule that submitted them.

        ``plan`` is the id of an act on many jobs (``client.job_plans``).
        ``text`` is a part of the id, the workload, a file name or the metadata (``lap=7``), in any case.
        With ``at``, a cursor, a time or seconds ago, the list as it was then.
        ``on_incomplete`` is told what the list lacks while the server starts; without it such a list is refused.
        """
        period = {"since": format_moment(since), "until": format_moment(until), "at": format_moment(at)}
        chosen = {"state": state, "workload": workload, "rule": rule, "plan": plan, "q": text}
        found = self._api.jobs(Job, on_incomplete, **chosen, limit=page_size, **period)
        return (job.bound_to(self) for job in iterate(found))

    def count_jobs(
        self,
        *,
        state: str | Sequence[str] | None = None,
        workload: str | None = None,
        rule: str | None = None,
        text: str | None = None,
        since: str | datetime | None = None,
        until: str | datetime | None = None,
    ) -> JobCountsView:
        """Return how many jobs the list with the same filters has, by state and by workload."""
        period = {"since": format_moment(since), "until": format_moment(until)}
        params = without_none({"state": state, "workload": workload, "rule": rule, "q": text, **period})
        return run_blocking(self._api.get(JobCountsView, "/v1/jobs/counts", params=params))

    def wait(self, job_id: str, *, timeout_s: float | None = None) -> Job:
        """Wait until a job ends, over restarts of the server, and return it; it may have failed.

        Raises:
            WaitTimeoutError: the job still runs after ``timeout_s``.
        """
        return run_blocking(self._api.wait(Job, job_id, timeout_s)).bound_to(self)

    def cancel(self, job_id: str) -> Job:
        """Request the cancellation of a job."""
        return run_blocking(self._api.act(Job, job_id, "cancel")).bound_to(self)

    def retry(self, job_id: str) -> Job:
        """Start another attempt of a failed or cancelled job; completed stages are kept."""
        return run_blocking(self._api.act(Job, job_id, "retry")).bound_to(self)

    def artifacts(self, job_id: str, *, presign: bool = False) -> ArtifactsView:
        """List a job's artifacts; with ``presign``, each with an address for an hour that needs no key."""
        return run_blocking(self._api.artifacts(job_id, presign=presign))

    def artifact_url(self, job_id: str, name: str) -> str:
        """Return a URL from which anybody can download an artifact for a while, without an API key."""
        return run_blocking(self._api.artifact_url(job_id, name))

    def download(
        self,
        job_id: str,
        folder: Path | str,
        on_progress: OnProgress | None = None,
        *,
        names: Sequence[str] | None = None,
    ) -> list[Path]:
        """Download a job's artifacts (or those named) into a folder, each checked against its SHA-256.

        Without ``names`` the manifest comes too. An interrupted download is resumed.
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

        A job's stream holds its whole history and ends with the job. A tenant's starts now, or at ``since`` (a cursor,
        a time, or seconds ago), and ends only without ``follow``. ``cursor`` is that of the last known event; ``types``
        are like ``job.succeeded`` or ``job.*``. A ``Gap`` reports events that were lost to retention.
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
        """Create a ticket with which a browser's EventSource opens the event stream at ``resource``."""
        return run_blocking(self._api.post(Ticket, "/v1/tickets", json={"resource": resource}))


class Events(Iterator[Event]):
    """Iterator over events; pass ``cursor`` to a later call to resume after the last event."""

    def __init__(self, stream: EventStream) -> None:
        """Iterate over ``stream``; it connects when the first event is requested."""
        self._stream = stream
        self._events = iterate(stream)

    def __next__(self) -> Event:
        """Return the next event when it comes."""
        return next(self._events)

    def __enter__(self) -> Events:
        """Return the iterator."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the stream."""
        self.close()

    @property
    def cursor(self) -> str | None:
        """Cursor of the newest durable event that was returned."""
        return self._stream.cursor

    def close(self) -> None:
        """Close the stream; leaving the loop does so too."""
        self._events.close()


class Job(JobView):
    """A job as it was when it was read, with the operations on it."""

    _client: Client = PrivateAttr()

    def bound_to(self, client: Client) -> Job:
        """Use ``client`` for the job's operations, and return the job."""
        self._client = client
        return self

    def events(self, *, types: Sequence[str] = (), cursor: str | None = None) -> Events:
        """Iterate over the job's events from its first (or after ``cursor``) to its last, over any disconnect."""
        return self._client.events(self.id, types=types, cursor=cursor)

    def refresh(self) -> Job:
        """Read the job again."""
        return self._client.job(self.id)

    def wait(self, *, timeout_s: float | None = None) -> Job:
        """Wait until the job ends and return it."""
        return self._client.wait(self.id, timeout_s=timeout_s)

    def raise_for_failure(self) -> Job:
        """Return the job.

        Raises:
            JobFailedError: it failed or was cancelled.
        """
        if failure := failure_of(self):
            raise failure
        return self

    def cancel(self) -> Job:
        """Request the job's cancellation."""
        return self._client.cancel(self.id)

    def retry(self) -> Job:
        """Start another attempt of the failed or cancelled job."""
        return self._client.retry(self.id)

    def artifacts(self) -> ArtifactsView:
        """List the job's artifacts."""
        return self._client.artifacts(self.id)

    def download(
        self, folder: Path | str, on_progress: OnProgress | None = None, *, names: Sequence[str] | None = None
    ) -> list[Path]:
        """Download the job's artifacts into a folder."""
        return self._client.download(self.id, folder, on_progress, names=names)
