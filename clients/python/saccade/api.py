"""Requests to the API and what they are for, written once for both clients (see saccade/transport.py)."""

from __future__ import annotations

import math
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from saccade.errors import AWAY, ClientError, JobFailedError, WaitTimeoutError, refusal, unreachable
from saccade.event_stream import EventStream
from saccade.retries import COMES_BACK_S, Retries, retry_after_s
from saccade.session_record import RecordStream
from saccade.transport import Transport
from saccade.views import ArtifactsView, JobView, UploadView

Model = TypeVar("Model", bound=BaseModel)
JobModel = TypeVar("JobModel", bound=JobView)
#: An input of a job: an upload or the id of one, or several where the input takes several.
InputFile = UploadView | str
Inputs = Mapping[str, InputFile | Sequence[InputFile]]
#: A moment: a cursor (in event streams), an RFC 3339 time, or seconds before now.
Since = str | int | datetime

#: The longest that a server lets a read wait.
_LONGEST_WAIT_S: Final = 60
_REQUEST_S: Final = 30.0


class Api:
    """Calls one server; knows whether it ever answered."""

    def __init__(self, connection: Transport, silence_s: float) -> None:
        """Call by ``connection``; an event stream that is silent for ``silence_s`` is taken for dead."""
        self.connection = connection
        self._silence_s = silence_s
        self._reached = False

    async def call(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        accept_status: frozenset[int] = frozenset(),
        **options: Any,
    ) -> dict[str, Any]:
        """Call and give the JSON object of the answer.

        A POST carries an idempotency key, made here once: however often it is sent, it counts once.

        Raises:
            ClientError: refused, or unreachable.
        """
        headers = dict(options.pop("headers", {}))
        if method == "POST":
            if key is not None and not (key.isascii() and key.isprintable()):
                raise ClientError("idempotency_key_invalid", "It is not printable ASCII.", "Use a UUID.")
            headers["Idempotency-Key"] = key or uuid.uuid4().hex
        response = await self.send(method, path, headers=headers, retry_status=AWAY - accept_status, **options)
        if response.is_error and response.status_code not in accept_status:
            raise refusal(response)
        if not response.content:
            return {}
        try:
            body = response.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise ClientError("unexpected_answer", "The answer is no JSON object.", status=response.status_code)
        return body

    async def send(
        self,
        method: str,
        path: str,
        *,
        retry_status: frozenset[int] = AWAY,
        patience_s: float = COMES_BACK_S,
        **options: Any,
    ) -> httpx.Response:
        """Send a request, again while the server is away."""
        # One that has not answered yet may be no server at all.
        retries = Retries(
            patience_s=patience_s if self._reached else min(patience_s, COMES_BACK_S), reached=self._reached
        )
        while True:
            try:
                response = await self.connection.request(method, path, **options)
            except httpx.TransportError as error:
                pause_s = retries.pause_s(error)
                if pause_s is None:
                    raise unreachable(self.connection.url, error) from error
            else:
                self._reached = True
                if response.status_code not in retry_status:
                    return response
                pause_s = retries.pause_s(asked_s=retry_after_s(response))
                if pause_s is None:
                    return response
            await self.connection.sleep(pause_s)

    async def get(self, model: type[Model], path: str, **options: Any) -> Model:
        """Read one thing."""
        return model.model_validate(await self.call("GET", path, **options))

    async def post(self, model: type[Model], path: str, **options: Any) -> Model:
        """Make or do one thing; ``key`` and ``json`` as of ``call``."""
        return model.model_validate(await self.call("POST", path, **options))

    async def patch(self, model: type[Model], path: str, changes: Mapping[str, Any]) -> Model:
        """Change one thing."""
        return model.model_validate(await self.call("PATCH", path, json=dict(changes)))

    async def listed(self, model: type[Model], path: str) -> list[Model]:
        """Read a list that has one page."""
        return [model.model_validate(one) for one in (await self.call("GET", path))["data"]]

    async def workloads(self) -> list[dict[str, Any]]:
        """List what the server can do."""
        data: list[dict[str, Any]] = (await self.call("GET", "/v1/workloads"))["data"]
        return data

    async def submit(self, model: type[JobModel], body: dict[str, Any], key: str | None) -> JobModel:
        """Submit a job."""
        return await self.post(model, "/v1/jobs", json=body, key=key)

    async def job(
        self, model: type[JobModel], job_id: str, wait_s: float | None, *, patience_s: float = COMES_BACK_S
    ) -> JobModel:
        """Read a job, as it is when it has ended or after ``wait_s``."""
        whole_s = min(_LONGEST_WAIT_S, math.ceil(wait_s or 0))
        headers = {"Prefer": f"wait={whole_s}"} if whole_s else {}
        path = f"/v1/jobs/{path_segment(job_id)}"
        return await self.get(model, path, headers=headers, timeout=_REQUEST_S + whole_s, patience_s=patience_s)

    async def wait(self, model: type[JobModel], job_id: str, timeout_s: float | None) -> JobModel:
        """Wait for a job's end, over restarts of the server.

        Raises:
            WaitTimeoutError: it goes on after ``timeout_s``.
            ClientError: there is no such job, or no server.
        """
        end_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = max(0.0, end_s - time.monotonic())
            job = await self.job(model, job_id, min(left_s, _LONGEST_WAIT_S), patience_s=max(left_s, COMES_BACK_S))
            if job.ended:
                return job
            if time.monotonic() >= end_s:
                message = f"The job has not ended after {timeout_s:g} s; it goes on."
                raise WaitTimeoutError("wait_timed_out", message, "Wait longer, or cancel it.", retryable=True)

    async def act(self, model: type[JobModel], job_id: str, verb: str) -> JobModel:
        """Cancel or retry a job."""
        return await self.post(model, f"/v1/jobs/{path_segment(job_id)}/{verb}")

    def jobs(self, model: type[JobModel], **search: Any) -> PageIterator[JobModel]:
        """List jobs, newest first."""
        return PageIterator(self, model, "/v1/jobs", search)

    async def artifacts(self, job_id: str) -> ArtifactsView:
        """Read what a job left behind."""
        return await self.get(ArtifactsView, f"/v1/jobs/{path_segment(job_id)}/artifacts")

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
        """Open the events of a job, of a session or (with neither) of the tenant."""
        path, shown = "/v1/events", frozenset[str]()
        params: dict[str, str | Sequence[str] | None] = {"types": ",".join(types), "subject": subject}
        if job_id or session_id:
            # The stream itself is read whole: its end must be seen whatever is shown of it.
            noun, resource_id = ("jobs", job_id) if job_id else ("sessions", session_id or "")
            path = f"/v1/{noun}/{path_segment(resource_id)}/events"
            params, shown, since = {}, frozenset(types), None
        return EventStream(
            self.connection,
            path,
            params={name: value for name, value in params.items() if value},
            types=shown,
            since=format_moment(since),
            cursor=cursor,
            follow=follow,
            silence_s=self._silence_s,
            reached=self._reached,
        )

    def record(self, session_id: str) -> RecordStream:
        """Open the record of what was streamed into a session."""
        path = f"/v1/sessions/{path_segment(session_id)}/telemetry"
        return RecordStream(self.connection, path, reached=self._reached)


class PageIterator(Generic[Model]):
    """Things of a list, read page after page."""

    def __init__(self, api: Api, model: type[Model], path: str, params: Mapping[str, Any]) -> None:
        """Read ``path``; nothing is read yet."""
        self._api = api
        self._model = model
        self._path = path
        self._params = without_none(params)
        self._ready: deque[Model] = deque()
        self._over = False

    async def next(self) -> Model | None:
        """Give the next thing."""
        while not self._ready:
            if self._over:
                return None
            page = await self._api.call("GET", self._path, params=self._params)
            self._ready.extend(self._model.model_validate(one) for one in page["data"])
            self._params["cursor"] = page.get("next_cursor")
            self._over = not self._params["cursor"]
        return self._ready.popleft()

    async def close(self) -> None:
        """Hold nothing."""


def path_segment(text: str) -> str:
    """Write an id as one segment of a path."""
    return quote(text, safe="")


def format_moment(since: Since | None) -> str | None:
    """Write a moment as the API takes it."""
    if isinstance(since, datetime):
        return since.astimezone().isoformat()
    return None if since is None else str(since)


def without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what was left out."""
    return {name: value for name, value in fields.items() if value is not None}


def job_body(workload: str, inputs: Inputs, params: Mapping[str, Any] | None, **options: Any) -> dict[str, Any]:
    """Write a job's request; inputs may be uploads or their ids."""

    def ids(value: InputFile | Sequence[InputFile]) -> str | list[str]:
        if isinstance(value, UploadView):
            return value.id
        return value if isinstance(value, str) else [one.id if isinstance(one, UploadView) else one for one in value]

    named = {name: ids(value) for name, value in inputs.items()}
    return {"workload": workload, "inputs": named, "params": dict(params or {})} | without_none(options)


def failure_of(job: JobView) -> JobFailedError | None:
    """Say why a job ended without a result; None when it did not."""
    if job.state == "cancelled":
        return JobFailedError("cancelled", "The job was cancelled.", "A cancelled job can be retried.")
    if job.state != "failed":
        return None
    error = job.error
    return JobFailedError(
        error.code if error else "failed", error.message if error else "The job failed.", error.hint if error else ""
    )
