"""``GET /v1/sessions/{id}/ply``: the newest model of a session, whole or its most important splats."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from contracts.errors import ErrorCode, SaccadeError
from contracts.session import Session, job_id_of_session
from kit.auth.principal import Reader
from kit.bucket import Bucket, ObjectMissing, OpenObject
from kit.http.problems import problem_responses
from services.gateway.dependencies import gateway_of
from services.gateway.sessions.ply_cut import PlyCut, cut_ply

router = APIRouter(tags=["sessions"])

_E = ErrorCode
#: Sorted by importance, so that any number of its first splats is the best choice of so many.
_MODEL: Final = "live.ply"
_MEDIA_TYPE: Final = "application/octet-stream"


@router.get(
    "/v1/sessions/{session_id}/ply",
    response_class=Response,
    summary="The newest model",
    responses={
        200: {"content": {_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}, "description": "A PLY."},
        304: {"description": "It is the version that `If-None-Match` names."},
        **problem_responses(_E.SESSION_NOT_FOUND, _E.SESSION_NOT_STARTED, _E.STORAGE_UNAVAILABLE),
    },
)
async def fetch_ply(
    request: Request,
    caller: Reader,
    session_id: str,
    max_splats: Annotated[
        int | None, Query(ge=1, le=1_000_000_000, description="A preview: so many of the most important splats.")
    ] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Give the model as 3DGS viewers read it; ask again with `If-None-Match` to be told whether it has changed."""
    gateway = gateway_of(request)
    session = await gateway.sessions.get(caller.tenant, session_id)
    return await ply_of(gateway.bucket, session, max_splats, if_none_match)


async def ply_of(bucket: Bucket, session: Session, max_splats: int | None, if_none_match: str | None) -> Response:
    """Give the newest model of a session, or say that the client has it.

    Raises:
        SaccadeError: SESSION_NOT_STARTED, when there is none; STORAGE_UNAVAILABLE.
    """
    key = bucket.key("results", job_id_of_session(session.id), _MODEL)
    async with AsyncExitStack() as stack:
        try:
            known, _ = await bucket.version(key)
            if _matches(if_none_match, mark := _mark(known, max_splats)):
                return Response(status_code=304, headers=_headers(mark))
            opened = await stack.enter_async_context(bucket.opened(key))
        except ObjectMissing:
            raise _nothing(session) from None
        headers = _headers(_mark(opened.etag, max_splats))
        chunks = opened.chunks()
        size_bytes, body = opened.size_bytes, chunks
        if max_splats is not None:
            cut, beginning = await _planned(opened, chunks, max_splats)
            size_bytes, body = cut.size_bytes, _cut(cut, beginning, chunks)
        held = stack.pop_all()
    headers |= {
        "Content-Length": str(size_bytes),
        "Content-Disposition": f'attachment; filename="{session.id}.ply"',
    }
    return StreamingResponse(_held(held, body), headers=headers, media_type=_MEDIA_TYPE)


async def _planned(opened: OpenObject, chunks: AsyncIterator[bytes], rows: int) -> tuple[PlyCut, bytes]:
    beginning = b""
    async for chunk in chunks:
        beginning += chunk
        cut = cut_ply(beginning, rows)
        if cut is not None:
            return cut, beginning
    raise SaccadeError(_E.INTERNAL, f"The worker's PLY of {opened.size_bytes} bytes has no header.")


async def _cut(cut: PlyCut, beginning: bytes, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield cut.header
    left = cut.rows * cut.row_bytes
    first = beginning[cut.first_byte : cut.first_byte + left]
    yield first
    left -= len(first)
    while left > 0:
        chunk = await anext(chunks, b"")
        if not chunk:
            raise SaccadeError(_E.STORAGE_UNAVAILABLE, "The worker's PLY is shorter than its header says.")
        yield chunk[:left]
        left -= len(chunk)


async def _held(held: AsyncExitStack, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async with held:
        async for chunk in body:
            yield chunk


def _mark(etag: str, max_splats: int | None) -> str:
    return f'"{etag}"' if max_splats is None else f'"{etag}-{max_splats}"'


def _matches(given: str | None, mark: str) -> bool:
    """Tell whether a client has this version; proxies may have made the mark a weak one."""
    return given is not None and any(one.strip().removeprefix("W/") in (mark, "*") for one in given.split(","))


def _headers(mark: str) -> dict[str, str]:
    return {"ETag": mark, "Cache-Control": "no-cache"}


def _nothing(session: Session) -> SaccadeError:
    if session.state.ended:
        return SaccadeError(
            _E.SESSION_NOT_STARTED, f"The session is {session.state} and left no model.", hint="Open a new one."
        )
    return SaccadeError(_E.SESSION_NOT_STARTED)
