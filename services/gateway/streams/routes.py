"""``GET /v1/streams``: the streams of the bus, for operators."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from contracts.audit import SYSTEM
from contracts.errors import ErrorCode, SaccadeError
from kit.auth.principal import Operator
from kit.http.app_state import from_app_state
from kit.http.problems import problem_responses
from services.gateway.streams.stream_reports import StreamReports

router = APIRouter(prefix="/v1/streams", tags=["operators"])

_E = ErrorCode


class StreamObject(BaseModel):
    """State of one stream."""

    name: str
    messages: int
    size_bytes: int
    first_sequence: int
    last_sequence: int
    oldest_at: datetime | None
    newest_at: datetime | None
    max_bytes: int | None = Field(description="Size at which it is full; null: none.")
    max_age_s: int | None = Field(description="Age at which messages are deleted; null: none.")
    when_full: Literal["refuses", "deletes_oldest"]
    deletes_in_s: float | None = Field(description="Time until its oldest message is deleted for its age.")


class StreamList(BaseModel):
    """The streams, and who is how far behind the stream of events."""

    data: list[StreamObject]
    view_behind: int = Field(description="Events that this gateway has not folded yet.")
    archived_until: int = Field(description="Newest archived event; 0: none is archived.")


@router.get("", summary="State of the streams", responses=problem_responses(_E.BUS_UNAVAILABLE, _E.STORAGE_UNAVAILABLE))
async def list_streams(
    caller: Operator, reports: Annotated[StreamReports, from_app_state("stream_reports")]
) -> StreamList:
    """Return fill, ages and limits of each stream: when it will refuse messages, and when it deletes its oldest.

    They hold the messages of all tenants: on a server with API keys, only operators of all tenants read this.
    """
    if not caller.across_tenants:
        raise SaccadeError(_E.FORBIDDEN, hint=f"Use a key of the tenant {SYSTEM} with the scope operate.")
    found = await reports.read()
    return StreamList(
        data=[StreamObject.model_validate(vars(report)) for report in found],
        view_behind=reports.behind(found),
        archived_until=await reports.archived_until(),
    )
