"""Route of the audit log, for operators."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from contracts.audit import SYSTEM, to_json
from contracts.errors import ErrorCode
from contracts.ids import TENANT_PATTERN
from contracts.limits import PAGE_DEFAULT, PAGE_MAX
from kit.auth.principal import Operator, tenants_of
from kit.http.app_state import from_app_state
from kit.http.problems import problem_responses
from services.gateway.aggregates.page_cursor import (
    AUDIT,
    decode_page_cursor,
    encode_page_cursor,
    page_cursor_query,
)
from services.gateway.audit.audit_reader import AuditFilter, AuditReader
from services.gateway.jobs.schemas import Moment

router = APIRouter(prefix="/v1/audit", tags=["operators"])

AuditReaderDep = Annotated[AuditReader, from_app_state("audit_reader")]
#: A token of a subject: nothing that NATS would read as a wildcard.
_Token = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_:-]{1,200}$")]
_Tenant = Annotated[
    str | None,
    Query(
        pattern=rf"{TENANT_PATTERN}|^{SYSTEM}$",
        description=f"Only records of this tenant; `{SYSTEM}` for those of the whole system.",
    ),
]


class AuditRecordObject(BaseModel):
    """One record: the intent of an act, or its outcome."""

    sequence: int
    id: str
    time: datetime
    type: str
    tenant: str
    subject: str = Field(description="Id of what the act concerns.")
    source: str
    hash: str
    by: str = Field(description="Id of the API key, or user of NATS.")
    by_verified: bool = Field(description="Whether the server has checked `by`.")
    why: str
    request_id: str
    phase: str
    intent: str | None = Field(description="Of an outcome: the id of its intent.")
    details: dict[str, Any]
    previous: str = Field(description="Hash of the record before it.")


class ChainFaultObject(BaseModel):
    """A place where the chain is broken."""

    sequence: int
    problem: str


class ChainObject(BaseModel):
    """State of the chain of hashes, over the whole log and not only this page.

    A key of a tenant gets the numbers of that tenant's records.
    """

    records: int = Field(description="Records that were verified.")
    head: str = Field(
        description="`<sequence>:<hash>` of the last of them: keep that of the whole log to verify it later."
    )
    complete: bool = Field(description="Whether all records are verified; otherwise the next request goes on.")
    faults: list[ChainFaultObject] = Field(description="The first of them; empty: every record follows the last one.")
    faults_total: int
    open_intents: int = Field(description="Intents that have no outcome yet.")


class AuditPage(BaseModel):
    """Records, newest first."""

    data: list[AuditRecordObject]
    next_cursor: str | None
    chain: ChainObject


@router.get("", summary="Read the audit log, newest first", responses=problem_responses(ErrorCode.CURSOR_INVALID))
async def read_audit(
    caller: Operator,
    audit: AuditReaderDep,
    *,
    tenant: _Tenant = None,
    noun: _Token = None,
    id: _Token = None,  # noqa: A002 - the parameter's name in the URL
    verb: _Token = None,
    by: Annotated[str | None, Query(max_length=200, description="Id of the key, or user of NATS.")] = None,
    request_id: Annotated[str | None, Query(max_length=200)] = None,
    since: Annotated[Moment | None, Query(description="Only records of this time or later.")] = None,
    until: Annotated[Moment | None, Query(description="Only records before this time.")] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
    cursor: Annotated[str | None, page_cursor_query(AUDIT)] = None,
) -> AuditPage:
    """Return who had what done, why, and what came of it. Each act has two records: an intent and an outcome.

    Records of other tenants and of the whole system are shown to operators of every tenant alone. A page may have fewer
    records than `limit` although more follow: `next_cursor` says so.
    """
    wanted = AuditFilter(
        tenant=tenants_of(caller, tenant),
        noun=noun,
        id=id,
        verb=verb,
        by=by,
        request_id=request_id,
        since=since,
        until=until,
    )
    before = decode_page_cursor(AUDIT, cursor) if cursor is not None else None
    records, following = await audit.page(wanted, before=before, limit=limit)
    chain = await audit.chain(tenants_of(caller))
    return AuditPage(
        data=[AuditRecordObject.model_validate(to_json(record)) for record in records],
        next_cursor=None if following is None else encode_page_cursor(AUDIT, following),
        chain=ChainObject(
            records=chain.records,
            head=chain.head,
            complete=chain.complete,
            faults=[ChainFaultObject(sequence=sequence, problem=problem) for sequence, problem in chain.faults],
            faults_total=chain.faults_total,
            open_intents=chain.open_intents,
        ),
    )
