"""HTTP answer with the newest model of a session, streamed from the bucket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Final

from fastapi import Response

from contracts.errors import ErrorCode, SaccadeError
from contracts.session import Session, job_id_of_session
from kit.bucket import ObjectMissing, OpenObject
from services.gateway.object_body import ObjectResponse
from services.gateway.object_reads import ObjectReads
from services.gateway.sessions.ply_cut import PlyCut, cut_ply

MEDIA_TYPE: Final = "application/octet-stream"

_E = ErrorCode
#: Rows sorted by importance, so that its first N splats are the best preview of N splats.
_MODEL: Final = "live.ply"


class PlyDownload:
    """Downloads of models."""

    def __init__(self, reads: ObjectReads) -> None:
        """Read models by ``reads``."""
        self._reads = reads

    async def response(self, session: Session, max_splats: int | None, if_none_match: str | None) -> Response:
        """Return the newest model, cut to ``max_splats`` if given; 304 if the client has this version.

        Raises:
            SaccadeError: SESSION_NOT_STARTED, if there is no model; RATE_LIMITED, STORAGE_UNAVAILABLE.
        """
        key = self._reads.bucket.key("results", job_id_of_session(session.id), _MODEL)
        async with AsyncExitStack() as stack:
            try:
                stored_etag, _ = await self._reads.bucket.version(key)
                if _matches(if_none_match, etag := _etag(stored_etag, max_splats)):
                    return Response(status_code=304, headers=_cache_headers(etag))
                opened = await stack.enter_async_context(self._reads.opened(session.tenant, key))
            except ObjectMissing:
                raise _no_model(session) from None
            headers = _cache_headers(_etag(opened.etag, max_splats))
            chunks = opened.chunks()
            size_bytes, body = opened.size_bytes, chunks
            if max_splats is not None:
                cut, beginning = await _plan_cut(opened, chunks, max_splats)
                size_bytes, body = cut.size_bytes, _cut_body(cut, beginning, chunks)
            open_object = stack.pop_all()
        headers |= {
            "Content-Length": str(size_bytes),
            "Content-Disposition": f'attachment; filename="{session.id}.ply"',
        }
        return ObjectResponse(body, open_object, headers=headers, media_type=MEDIA_TYPE)


async def _plan_cut(opened: OpenObject, chunks: AsyncIterator[bytes], rows: int) -> tuple[PlyCut, bytes]:
    beginning = b""
    async for chunk in chunks:
        beginning += chunk
        cut = cut_ply(beginning, rows)
        if cut is not None:
            return cut, beginning
    raise SaccadeError(_E.INTERNAL, f"The worker's PLY of {opened.size_bytes} bytes has no header.")


async def _cut_body(cut: PlyCut, beginning: bytes, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield cut.header
    remaining = cut.rows * cut.row_bytes
    first = beginning[cut.first_byte : cut.first_byte + remaining]
    yield first
    remaining -= len(first)
    while remaining > 0:
        chunk = await anext(chunks, b"")
        if not chunk:
            raise SaccadeError(_E.STORAGE_UNAVAILABLE, "The worker's PLY is shorter than its header says.")
        yield chunk[:remaining]
        remaining -= len(chunk)


def _etag(stored_etag: str, max_splats: int | None) -> str:
    return f'"{stored_etag}"' if max_splats is None else f'"{stored_etag}-{max_splats}"'


def _matches(if_none_match: str | None, etag: str) -> bool:
    """Return whether a client has this version; proxies may have made its entity tag a weak one."""
    if if_none_match is None:
        return False
    return any(known.strip().removeprefix("W/") in (etag, "*") for known in if_none_match.split(","))


def _cache_headers(etag: str) -> dict[str, str]:
    return {"ETag": etag, "Cache-Control": "no-cache"}


def _no_model(session: Session) -> SaccadeError:
    if session.state.ended:
        return SaccadeError(
            _E.SESSION_NOT_STARTED, f"The session is {session.state} and has no model.", hint="Open a new session."
        )
    return SaccadeError(_E.SESSION_NOT_STARTED)
