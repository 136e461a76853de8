"""A typed client of Saccade's HTTP API: uploads, jobs, artifacts and events, over connections that may break."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from saccade import transfer
from saccade.errors import ClientError
from saccade.event_stream import Event, EventStream
from saccade.objects import Artifact, ArtifactsView, JobView, UploadView

#: Called with bytes done and bytes in all.
OnProgress = Callable[[int, int], None]

_TRIES: Final = 4
_MANIFEST: Final = "manifest.json"
#: A service that died comes back within this: its supervisor pauses up to 5 s, and it takes some to start.
_COMES_BACK_S: Final = 12.0
_AWAY: Final = frozenset({502, 503, 504})


class Client:
    """Talks to one server. Every method raises ``ClientError`` when the server refuses or cannot be reached."""

    def __init__(self, url: str, api_key: str | None = None, *, timeout_s: float = 30.0) -> None:
        """Use the server at ``url``; without a key it must be an embedded one."""
        headers = {"User-Agent": "saccade"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        self.url = url.rstrip("/")
        self._reached = False
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout_s)
        # Presigned URLs carry their own authority: the key must not follow them to the bucket.
        self._bucket = httpx.Client(headers={"User-Agent": "saccade"}, timeout=httpx.Timeout(timeout_s, write=300.0))

    def __enter__(self) -> Client:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
        self._bucket.close()

    def health(self) -> dict[str, Any]:
        """Give the server's health."""
        return self._call("GET", "/health", accept_status=frozenset({503}))

    def workloads(self) -> list[dict[str, Any]]:
        """List what the server can do."""
        data: list[dict[str, Any]] = self._call("GET", "/v1/workloads")["data"]
        return data

    def upload(
        self,
        path: Path,
        on_progress: OnProgress | None = None,
        *,
        content_type: str | None = None,
        state_dir: Path | None = None,
        multipart: bool | None = None,
    ) -> UploadView:
        """Upload a file and complete it: by one PUT, or in parts where it is large or ``multipart`` says so.

        With ``state_dir`` an interrupted upload in parts goes on where it stopped when the same file (path, size,
        modification time) is uploaded again.
        """
        sending = transfer.Upload(self._call, self._put, path, content_type=content_type, state_dir=state_dir)
        return UploadView.model_validate(sending.run(on_progress or _no_progress, multipart=multipart, url=self.url))

    def submit(
        self,
        workload: str,
        inputs: Mapping[str, Any],
        params: Mapping[str, Any] | None = None,
        *,
        priority: int | None = None,
        max_cost_usd: float | None = None,
        gpu: str | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> JobView:
        """Submit a job; it is stored when this returns, and only once however often the request was tried."""
        body: dict[str, Any] = {"workload": workload, "inputs": dict(inputs), "params": dict(params or {})}
        options: dict[str, Any] = {"priority": priority, "max_cost_usd": max_cost_usd, "gpu": gpu}
        options["metadata"] = metadata and dict(metadata)
        body |= {name: value for name, value in options.items() if value is not None}
        return JobView.model_validate(self._call("POST", "/v1/jobs", json=body, key=idempotency_key))

    def job(self, job_id: str, *, wait_s: int | None = None) -> JobView:
        """Read a job; ``wait_s`` lets the server answer only when it has ended, or after so many seconds."""
        headers = {"Prefer": f"wait={wait_s}"} if wait_s else {}
        timeout_s = 30.0 + (wait_s or 0)
        return JobView.model_validate(self._call("GET", f"/v1/jobs/{job_id}", headers=headers, timeout=timeout_s))

    def jobs(
        self,
        *,
        state: str | None = None,
        workload: str | None = None,
        since: str | None = None,
        until: str | None = None,
        page_size: int | None = None,
    ) -> Iterator[JobView]:
        """Iterate over jobs, newest first, reading page after page."""
        given = {"state": state, "workload": workload, "since": since, "until": until, "limit": page_size}
        params: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        while True:
            page = self._call("GET", "/v1/jobs", params=params)
            yield from (JobView.model_validate(job) for job in page["data"])
            if not page.get("next_cursor"):
                return
            params["cursor"] = page["next_cursor"]

    def cancel(self, job_id: str) -> JobView:
        """Ask for a job's end."""
        return JobView.model_validate(self._call("POST", f"/v1/jobs/{job_id}/cancel"))

    def retry(self, job_id: str) -> JobView:
        """Give a failed or cancelled job another attempt."""
        return JobView.model_validate(self._call("POST", f"/v1/jobs/{job_id}/retry"))

    def artifacts(self, job_id: str) -> ArtifactsView:
        """Read what a job left behind."""
        return ArtifactsView.model_validate(self._call("GET", f"/v1/jobs/{job_id}/artifacts"))

    def download(
        self,
        job_id: str,
        folder: Path,
        on_progress: OnProgress | None = None,
        *,
        names: Sequence[str] | None = None,
    ) -> list[Path]:
        """Download a job's artifacts (or those named) into a folder, each checked against its SHA-256.

        All of them come with the manifest, which says what each is.
        """
        manifest = self.artifacts(job_id)
        wanted = [artifact for artifact in manifest.artifacts if names is None or artifact.name in names]
        if missing := set(names or ()) - {artifact.name for artifact in wanted}:
            raise ClientError("artifact_not_found", f"The job has no artifact {', '.join(sorted(missing))}.")
        total = sum(artifact.bytes for artifact in wanted)
        done = 0
        paths = []
        for artifact in wanted:
            paths.append(self._download(job_id, artifact, folder, _within(on_progress or _no_progress, done, total)))
            done += artifact.bytes
        if names is None and manifest.complete:
            paths.append(self._download_manifest(job_id, folder))
        return paths

    def events(
        self,
        job_id: str | None = None,
        *,
        session_id: str | None = None,
        types: Sequence[str] = (),
        subject: str | None = None,
        since: str | None = None,
        cursor: str | None = None,
        follow: bool = True,
    ) -> Iterator[Event]:
        """Iterate over the events of a job, a session or (with neither) the tenant, each once, over any disconnect.

        A job's stream has its whole history and ends with the job; a tenant's starts now, or at ``since`` (a cursor,
        an RFC 3339 time, or seconds ago), and ends only without ``follow``. ``cursor`` is the last event known.
        """
        given = {"types": ",".join(types), "subject": subject, "since": since}
        path = "/v1/events"
        shown = frozenset[str]()
        if job_id or session_id:
            path = f"/v1/jobs/{job_id}/events" if job_id else f"/v1/sessions/{session_id}/events"
            # The stream itself is read whole: its end must be seen whatever is shown of it.
            given, shown = {}, frozenset(types)
        params = {name: value for name, value in given.items() if value}
        try:
            for event in EventStream(self._http, path, params, cursor=cursor, follow=follow):
                if not shown or event.type in shown:
                    yield event
        except httpx.HTTPStatusError as error:
            raise _problem(error.response) from error
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _download(self, job_id: str, artifact: Artifact, folder: Path, on_bytes: Callable[[int], None]) -> Path:
        """Follow the presigned address of one artifact, which is signed anew for each try."""
        for tried in range(1, _TRIES + 1):
            answer = self._send("GET", f"/v1/jobs/{job_id}/artifacts/{artifact.name}")
            if not answer.has_redirect_location:
                raise _problem(answer)
            try:
                path = folder / artifact.name
                return transfer.download(self._bucket, answer.headers["Location"], path, artifact, on_bytes)
            except (httpx.HTTPError, transfer.Damaged) as error:
                # Bytes that arrive wrong twice lie wrong in the bucket.
                if tried == _TRIES or (tried > 1 and isinstance(error, transfer.Damaged)):
                    raise ClientError("download_failed", f"{artifact.name}: {error}", "Try again.") from error
                time.sleep(0.15 * 2**tried)
        raise AssertionError("unreachable")

    def _download_manifest(self, job_id: str, folder: Path) -> Path:
        answer = self._send("GET", f"/v1/jobs/{job_id}/artifacts/{_MANIFEST}")
        if not answer.has_redirect_location:
            raise _problem(answer)
        try:
            manifest = self._bucket.get(answer.headers["Location"]).raise_for_status()
        except httpx.HTTPError as error:
            raise ClientError("download_failed", f"{_MANIFEST}: {error}", "Try again.") from error
        path = folder / _MANIFEST
        path.write_bytes(manifest.content)
        return path

    def _put(self, url: str, content: Callable[[], Iterator[bytes]], size: int, headers: Mapping[str, str]) -> str:
        """PUT bytes to a presigned URL, again when the connection breaks, and give their ETag."""
        sent = dict(headers) | {"Content-Length": str(size)}
        for tried in range(1, _TRIES + 1):
            try:
                response = self._bucket.put(url, content=content(), headers=sent)
            except httpx.TransportError as error:
                if tried == _TRIES:
                    raise ClientError("storage_unavailable", f"The upload broke off: {error}.") from error
            else:
                if response.is_success:
                    return str(response.headers.get("ETag", ""))
                if response.status_code < 500 or tried == _TRIES:
                    message = f"The bucket refused the upload ({response.status_code})."
                    raise ClientError("upload_refused", message, "Start it again.", status=response.status_code)
            time.sleep(0.15 * 2**tried)
        raise AssertionError("unreachable")

    def _call(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        accept_status: frozenset[int] = frozenset(),
        **options: Any,
    ) -> dict[str, Any]:
        """Call the API and give its JSON object."""
        headers = dict(options.pop("headers", {}))
        if method == "POST":
            if key is not None and not (key.isascii() and key.isprintable()):
                raise ClientError("idempotency_key_invalid", "It is not printable ASCII.", "Use a UUID.")
            headers["Idempotency-Key"] = key or uuid.uuid4().hex
        response = self._send(method, path, headers=headers, retry_status=_AWAY - accept_status, **options)
        if response.is_error and response.status_code not in accept_status:
            raise _problem(response)
        if not response.content:
            return {}
        body: dict[str, Any] = response.json()
        return body

    def _send(self, method: str, path: str, *, retry_status: frozenset[int] = _AWAY, **options: Any) -> httpx.Response:
        """Send a request, again while the server is away: reads repeat freely, POSTs carry an idempotency key."""
        end = time.monotonic() + _COMES_BACK_S
        pause_s = 0.4
        while True:
            last = time.monotonic() + pause_s > end
            try:
                response = self._http.request(method, path, **options)
            except httpx.TransportError as error:
                # A server that never was there is not started; one that went away comes back.
                absent = isinstance(error, httpx.ConnectError) and not self._reached
                if last or absent:
                    raise self._unreachable(error) from error
            else:
                self._reached = True
                if response.status_code not in retry_status or last:
                    return response
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 2.0)

    def _unreachable(self, error: Exception) -> ClientError:
        message, hint = f"No answer from {self.url} ({error}).", "See that it runs and that this address is right."
        return ClientError("server_unreachable", message, hint)


def _no_progress(_done: int, _total: int) -> None:
    """Tell nobody."""


def _within(on_progress: OnProgress, done: int, total: int) -> Callable[[int], None]:
    """Tell of one file's bytes as a part of them all."""
    return lambda count: on_progress(done + count, total)


def _problem(response: httpx.Response) -> ClientError:
    """Make an error of a problem+json answer, or of whatever a proxy sent instead."""
    try:
        body = response.json()
    except ValueError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    return ClientError(
        str(body.get("code", "unexpected_answer")),
        str(body.get("detail") or body.get("title") or f"The server answered {response.status_code}."),
        str(body.get("hint", "")),
        status=response.status_code,
        request_id=str(body.get("request_id") or response.headers.get("X-Request-Id", "")),
    )
