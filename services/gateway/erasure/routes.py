"""Routes of erasures: of a tenant's data, of a job, of an upload."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Request

from contracts.audit import Attribution
from contracts.errors import ErrorCode
from contracts.ids import TENANT_PATTERN
from kit.auth.principal import Operator, ReaderOrOperator, WriterOrOperator, tenant_of
from kit.http.app_state import from_app_state
from kit.http.attribution import attribution_of
from kit.http.path_ids import ErasureId, JobId, UploadId
from kit.http.problems import problem_responses
from services.gateway.erasure.schemas import ErasureObject
from services.gateway.erasure.service import ErasureService

router = APIRouter(prefix="/v1", tags=["erasures"])

_E = ErrorCode
ErasureServiceDep = Annotated[ErasureService, from_app_state("erasures")]
TenantName = Annotated[str, Path(pattern=TENANT_PATTERN)]
AskedTenant = Annotated[str | None, Query(description="For operators: the tenant whose it is.", pattern=TENANT_PATTERN)]
Why = Annotated[
    str,
    Query(
        min_length=1, max_length=500, description="Kept in the audit log for good: name no person and no file in it."
    ),
]


async def _by_operator(request: Request, caller: Operator, why: Why) -> Attribution:
    return attribution_of(request, caller, why)


async def _by_writer(request: Request, caller: WriterOrOperator, why: Why) -> Attribution:
    return attribution_of(request, caller, why)


async def _owner(caller: WriterOrOperator, tenant: AskedTenant = None) -> str:
    return tenant_of(caller, tenant)


ByOperator = Annotated[Attribution, Depends(_by_operator)]
ByWriter = Annotated[Attribution, Depends(_by_writer)]
#: Tenant whose job or upload is erased: the caller's own, or the one that an operator names.
Owner = Annotated[str, Depends(_owner)]
_BLOCKED: Final = (_E.ERASURE_BLOCKED, _E.BUS_UNAVAILABLE)


@router.delete(
    "/tenants/{tenant}/data",
    status_code=202,
    summary="Erase all data of a tenant",
    responses=problem_responses(_E.INVALID_PARAMETER, *_BLOCKED),
)
async def erase_tenant(
    caller: Operator, tenant: TenantName, by: ByOperator, erasures: ErasureServiceDep
) -> ErasureObject:
    """Erase every file, event, setting and view of a tenant; its API keys stay in the keys file.

    What remains, and why, is in the report. A second request for the same returns the first one while it waits.
    """
    return await erasures.erase_tenant(tenant_of(caller, tenant), by)


@router.delete(
    "/jobs/{job_id}/data",
    status_code=202,
    summary="Erase a job",
    responses=problem_responses(_E.JOB_NOT_FOUND, _E.JOB_IN_PIPELINE, *_BLOCKED),
)
async def erase_job(tenant: Owner, job_id: JobId, by: ByWriter, erasures: ErasureServiceDep) -> ErasureObject:
    """Erase a job that has ended: its events, results and files, those of its stages and of its live session.

    The uploads that it used stay.
    """
    return await erasures.erase_job(tenant, job_id, by)


@router.delete(
    "/uploads/{upload_id}/data",
    status_code=202,
    summary="Erase an upload",
    responses=problem_responses(_E.UPLOAD_NOT_FOUND, *_BLOCKED),
)
async def erase_upload(
    tenant: Owner,
    upload_id: UploadId,
    by: ByWriter,
    erasures: ErasureServiceDep,
    jobs: Annotated[bool, Query(description="Also erase the jobs that used it.")] = False,
) -> ErasureObject:
    """Erase an upload: its file, its events and its metadata. `DELETE /v1/uploads/{id}` deletes the file alone."""
    return await erasures.erase_upload(tenant, upload_id, by, with_jobs=jobs)


@router.get("/erasures/{erasure_id}", summary="Read an erasure", responses=problem_responses(_E.ERASURE_NOT_FOUND))
async def read_erasure(caller: ReaderOrOperator, erasure_id: ErasureId, erasures: ErasureServiceDep) -> ErasureObject:
    """Return whether an erasure is completed, and its report: what was removed from each store, what must remain."""
    return await erasures.get(caller, erasure_id)
