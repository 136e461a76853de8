"""Requests to the API, written once for the blocking and the asyncio client (see transport.py)."""

from __future__ import annotations

import math
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from saccade_client.errors import UNAVAILABLE, ClientError, JobFailedError, WaitTimeoutError, refusal, unreachable
from saccade_client.event_stream import EventStream
from saccade_client.history_views import ChangesView, IncompleteView
from saccade_client.replay_stream import ReplayStream
from saccade_client.request_parts import (
    LONGEST_WAIT_S,
    Since,
    format_moment,
    json_bytes,
    located_url,
    path_segment,
    point_options,
    replay_path,
    wait_options,
    without_none,
)
from saccade_client.retries import COMES_BACK_S, UNAVAILABLE_S, Retries, retry_after_s
from saccade_client.session_record import RecordStream
from saccade_client.transport import Transport
from saccade_client.views import ArtifactsView, JobView

Model = TypeVar("Model", bound=BaseModel)
JobModel = TypeVar("JobModel", bound=JobView)
_HEALTH: Final = ("ok", "degraded")
_ADDRESS_HINT: Final = "Check that the address is that of a Saccade server."


class Api:
    """Requests to one server; remembers whether it ever answered."""

    def __init__(self, transport: Transport, silence_s: float) -> None:
        """Send requests with ``transport``; an event stream that is silent for ``silence_s`` is reconnected."""
        self.transport = transport
        self._silence_s = silence_s
        self._reached = False

    async def call(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Send a request and return the JSON object of the answer.

        A POST carries one idempotency key for all its retries, so that it takes effect once.

        Raises:
            ClientError: refused, or unreachable.
        """
        headers = dict(options.pop("headers", {}))
        if method == "POST":
            if key is not None and not (key.isascii() and key.isprintable()):
                raise ClientError("idempotency_key_invalid", "The key is not printable ASCII.", "Use a UUID.")
            headers["Idempotency-Key"] = key or uuid.uuid4().hex
        if "json" in options:
            options["content"] = json_bytes(options.pop("json"))
            headers["Content-Type"] = "application/json"
        response = await self.send(method, path, headers=headers, **options)
        if response.is_error:
            raise refusal(response)
        if not response.content:
            return {}
        body = _object_in(response)
        if body is None:
            message = "The answer is not a JSON object."
            raise ClientError("unexpected_answer", message, _ADDRESS_HINT, status=response.status_code)
        return body

    async def send(
        self,
        method: str,
        path: str,
        *,
        retry_status: frozenset[int] = UNAVAILABLE,
        patience_s: float = COMES_BACK_S,
        gone_is_done: bool = False,
        **options: Any,
    ) -> httpx.Response:
        """Send a request; retry while the server is unavailable.

        ``gone_is_done``: after a request whose answer was lost, "not found" means that it was carried out.
        """
        # An address that never answered may not be a server at all.
        retries = Retries(
            patience_s=patience_s if self._reached else min(patience_s, COMES_BACK_S), reached=self._reached
        )
        may_be_done = False
        while True:
            try:
                response = await self.transport.request(method, path, **options)
            except httpx.TransportError as error:
                pause_s = retries.pause_s(error)
                if pause_s is None:
                    raise unreachable(self.transport.url, error) from error
                may_be_done = may_be_done or not isinstance(error, httpx.ConnectError)
            else:
                self._reached = True
                if response.status_code not in retry_status:
                    is_done = gone_is_done and may_be_done and response.status_code == httpx.codes.NOT_FOUND
                    return httpx.Response(httpx.codes.NO_CONTENT, request=response.request) if is_done else response
                if patience_s > 0.0:
                    retries.set_patience(max(patience_s, UNAVAILABLE_S))
                pause_s = retries.pause_s(asked_s=retry_after_s(response))
                if pause_s is None:
                    return response
            await self.transport.sleep(pause_s)

    async def get(self, model: type[Model], path: str, **options: Any) -> Model:
        """Read one resource."""
        return parsed(model, await self.call("GET", path, **options))

    async def post(self, model: type[Model], path: str, **options: Any) -> Model:
        """Create a resource or run an action; ``key`` and ``json`` as in ``call``."""
        return parsed(model, await self.call("POST", path, **options))

    async def patch(self, model: type[Model], path: str, changes: Mapping[str, Any], **options: Any) -> Model:
        """Change one resource."""
        return parsed(model, await self.call("PATCH", path, json=dict(changes), **options))

    async def delete(self, path: str) -> None:
        """Delete one resource."""
        await self.call("DELETE", path, gone_is_done=True)

    async def listed(self, model: type[Model], path: str) -> list[Model]:
        """Read a list of one page."""
        return [parsed(model, item) for item in _items(await self.call("GET", path))]

    async def health(self) -> dict[str, Any]:
        """Read the health report, without waiting for a server that is away.

        Raises:
            ClientError: the answer is no report; unreachable.
        """
        response = await self.send("GET", "/health", retry_status=UNAVAILABLE - {httpx.codes.SERVICE_UNAVAILABLE})
        report = _object_in(response) or {}
        is_report = report.get("status") in _HEALTH and "service" in report and isinstance(report.get("checks"), dict)
        if is_report and (response.is_success or response.status_code == httpx.codes.SERVICE_UNAVAILABLE):
            return report
        raise refusal(response) if response.is_error else _unexpected()

    async def workloads(self) -> list[dict[str, Any]]:
        """List the server's workloads."""
        found = _items(await self.call("GET", "/v1/workloads"))
        if not all(isinstance(workload, dict) and "name" in workload for workload in found):
            raise _unexpected()
        return found

    async def submit(self, model: type[JobModel], body: dict[str, Any], key: str | None) -> JobModel:
        """Submit a job."""
        return await self.post(model, "/v1/jobs", json=body, key=key)

    async def job(
        self,
        model: type[JobModel],
        job_id: str,
        wait_s: float | None,
        *,
        at: Since | None = None,
        patience_s: float = COMES_BACK_S,
    ) -> JobModel:
        """Read a job when it has ended, or after ``wait_s``; or as it was ``at`` a point of the history."""
        path = f"/v1/jobs/{path_segment(job_id)}"
        return await self.get(model, path, patience_s=patience_s, **wait_options(wait_s), **point_options(at))

    async def changes(self, path: str, since: Since, until: Since | None) -> ChangesView:
        """Read what changed of the job or session at ``path`` between two points of the history."""
        window = without_none({"since": format_moment(since), "until": format_moment(until)})
        return await self.get(ChangesView, f"{path}/changes", params=window)

    async def wait(self, model: type[JobModel], job_id: str, timeout_s: float | None) -> JobModel:
        """Wait until a job ends, over restarts of the server.

        Raises:
            WaitTimeoutError: the job still runs after ``timeout_s``.
            ClientError: there is no such job, or no server.
        """
        end_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = max(0.0, end_s - time.monotonic())
            job = await self.job(model, job_id, min(left_s, LONGEST_WAIT_S), patience_s=max(left_s, COMES_BACK_S))
            if job.ended:
                return job
            if time.monotonic() >= end_s:
                message = f"The job has not ended after {timeout_s:g} s; it still runs."
                raise WaitTimeoutError("wait_timed_out", message, "Wait longer, or cancel the job.", retryable=True)

    async def act(self, model: type[JobModel], job_id: str, verb: str) -> JobModel:
        """Cancel or retry a job."""
        return await self.post(model, f"/v1/jobs/{path_segment(job_id)}/{verb}")

    def jobs(
        self, model: type[JobModel], on_incomplete: Callable[[IncompleteView], object] | None = None, **search: Any
    ) -> PageIterator[JobModel]:
        """List jobs, newest first; only with ``on_incomplete`` also those that the server knows while it starts."""
        allowed = {"incomplete": "true"} if on_incomplete else {}
        return PageIterator(self, model, "/v1/jobs", search | allowed, on_incomplete)

    async def artifacts(self, job_id: str, *, presign: bool = False) -> ArtifactsView:
        """Read a job's artifacts."""
        params = {"presign": "true"} if presign else {}
        return await self.get(ArtifactsView, f"/v1/jobs/{path_segment(job_id)}/artifacts", params=params)

    async def artifact_url(self, job_id: str, name: str) -> str:
        """Return the URL that an artifact's route redirects to.

        Raises:
            ClientError: there is no such artifact, or no server.
        """
        path = f"/v1/jobs/{path_segment(job_id)}/artifacts/{quote(name)}"
        response = await self.send("GET", path)
        if response.is_error:
            raise refusal(response)
        # An HTML page is served by the API itself: then the location is a path.
        return located_url(self.transport.url, str(response.headers.get("Location", path)))

    def events(
        self,
        *,
        job_id: str | None = None,
        session_id: str | None = None,
        types: Sequence[str] = (),
        subject: str | Sequence[str] | None = None,
        since: Since | None = None,
        cursor: str | None = None,
        follow: bool = True,
    ) -> EventStream:
        """Return the event stream of a job, of a session or (with neither) of the tenant."""
        path, shown = "/v1/events", frozenset[str]()
        params: dict[str, str | Sequence[str] | None] = {"types": ",".join(types), "subject": subject}
        if job_id or session_id:
            # Types are filtered here, not by the server: the event that ends the stream must be seen.
            noun, resource_id = ("jobs", job_id) if job_id else ("sessions", session_id or "")
            path = f"/v1/{noun}/{path_segment(resource_id)}/events"
            params, shown, since = {}, frozenset(types), None
        return EventStream(
            self.transport,
            path,
            params={name: value for name, value in params.items() if value},
            types=shown,
            since=format_moment(since),
            cursor=cursor,
            follow=follow,
            silence_s=self._silence_s,
            reached=self._reached,
        )

    def replay_stream(self, replay_id: str, last_id: str | None) -> ReplayStream:
        """Return the stream of a replay's events after ``last_id``."""
        path = replay_path(replay_id, "stream")
        return ReplayStream(self.transport, path, last_id=last_id, silence_s=self._silence_s, reached=self._reached)

    def record(self, session_id: str) -> RecordStream:
        """Return the stream of a session's recorded telemetry."""
        path = f"/v1/sessions/{path_segment(session_id)}/telemetry"
        return RecordStream(self.transport, path, reached=self._reached)


class PageIterator(Generic[Model]):
    """Iterator over a list, read page by page."""

    def __init__(
        self,
        api: Api,
        model: type[Model],
        path: str,
        params: Mapping[str, Any],
        on_incomplete: Callable[[IncompleteView], object] | None = None,
    ) -> None:
        """Iterate over ``path``; nothing is read yet. ``on_incomplete`` is told what a page lacks, if it says so."""
        self._api, self._on_incomplete = api, on_incomplete
        self._model = model
        self._path = path
        self._params = without_none(params)
        self._ready: deque[Model] = deque()
        self._over = False

    async def next(self) -> Model | None:
        """Return the next item, or None at the end."""
        while not self._ready:
            if self._over:
                return None
            page = await self._api.call("GET", self._path, params=self._params)
            if self._on_incomplete and (incomplete := page.get("incomplete")):
                self._on_incomplete(parsed(IncompleteView, incomplete))
            self._ready.extend(parsed(self._model, item) for item in _items(page))
            self._params["cursor"] = page.get("next_cursor")
            self._over = not self._params["cursor"]
        return self._ready.popleft()

    async def close(self) -> None:
        """Do nothing: no connection is held."""


def failure_of(job: JobView) -> JobFailedError | None:
    """Return the error of a job that failed or was cancelled, else None."""
    if job.state == "cancelled":
        return JobFailedError("cancelled", "The job was cancelled.", "A cancelled job can be retried.")
    if job.state != "failed":
        return None
    error = job.error
    return JobFailedError(
        error.code if error else "failed", error.message if error else "The job failed.", error.hint if error else ""
    )


def parsed(model: type[Model], answer: Any) -> Model:
    """Return an answer as its model.

    Raises:
        ClientError: ``unexpected_answer``, it is that of another server.
    """
    try:
        return model.model_validate(answer)
    except ValidationError as error:
        raise _unexpected() from error


def _object_in(response: httpx.Response) -> dict[str, Any] | None:
    """Return the JSON object of an answer; None if it has none."""
    try:
        body = response.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _items(page: Mapping[str, Any]) -> list[Any]:
    items = page.get("data")
    if not isinstance(items, list):
        raise _unexpected()
    return items


def _unexpected() -> ClientError:
    return ClientError("unexpected_answer", "The answer has an unexpected form.", _ADDRESS_HINT)
