"""Route of the product-photo service that this system replaces: a request for frames, as a job of ``nerf``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from contracts.errors import ErrorCode
from kit.auth.principal import Writer
from kit.http.app_state import from_app_state
from kit.http.problems import problem_responses
from services.gateway.compat.nerf_jobs import ColmapAnswer, ColmapRequest, NerfJobs

router = APIRouter(tags=["replaced"])

_E = ErrorCode


@router.post(
    "/api/nerf/colmap",
    status_code=202,
    summary="Render frames from photos of a product",
    responses=problem_responses(
        _E.UPLOAD_NOT_FOUND,
        _E.UPLOAD_NOT_COMPLETED,
        _E.WRONG_INPUT_MEDIA,
        _E.INVALID_PARAMETER,
        _E.IDEMPOTENCY_KEY_REUSED,
        _E.BACKEND_NOT_INSTALLED,
        _E.UNKNOWN_WORKLOAD,
    ),
)
async def nerf_from_images(
    response: Response,
    caller: Writer,
    body: ColmapRequest,
    nerf_jobs: Annotated[NerfJobs, from_app_state("compat_nerf_jobs")],
) -> ColmapAnswer:
    """Submit a job of the workload `nerf`; the same `job_id` with the same photos returns the same job."""
    answer = await nerf_jobs.submit(caller.tenant, body)
    response.headers["Location"] = f"/v1/jobs/{answer.id}"
    return answer
