"""Routes of the product-photo service that this system replaces: views of the stages of a job of ``nerf``.

``POST …/colmap`` submits the whole pipeline; the requests for a training and for frames find it running or done.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path, Response

from contracts.errors import ErrorCode
from kit.auth.principal import Reader, Writer
from kit.http.app_state import from_app_state
from kit.http.problems import problem_responses
from services.gateway.compat.nerf.jobs import ColmapAnswer, ColmapRequest, NerfJobs
from services.gateway.compat.nerf.requests import RenderRequest, TrainingRequest
from services.gateway.compat.nerf.views import PosesStageStatus, RenderingStageStatus, TrainingStageStatus

router = APIRouter(prefix="/api/nerf", tags=["replaced"])

_E = ErrorCode
_FOUND: Final = problem_responses(_E.JOB_NOT_FOUND)
_RETRIED: Final = problem_responses(
    *(_E.JOB_NOT_FOUND, _E.JOB_NOT_RETRYABLE, _E.SCRATCH_REMOVED),
    *(_E.UPLOAD_NOT_FOUND, _E.BACKEND_NOT_INSTALLED, _E.BUDGET_EXCEEDED),
)
Name = Annotated[str, Path(min_length=1, max_length=220, description="The job's name in the request, or its id.")]
NerfJobsDep = Annotated[NerfJobs, from_app_state("compat_nerf_jobs")]


@router.post(
    "/colmap",
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
    response: Response, caller: Writer, body: ColmapRequest, nerf_jobs: NerfJobsDep
) -> ColmapAnswer:
    """Submit a job of the workload `nerf`; the same `job_id` with the same photos returns the same job."""
    answer = await nerf_jobs.submit(caller.tenant, body)
    response.headers["Location"] = f"/v1/jobs/{answer.id}"
    return answer


@router.get("/colmap/status/{job_id}", summary="State of the cameras' poses", responses=_FOUND)
async def colmap_status(caller: Reader, job_id: Name, nerf_jobs: NerfJobsDep) -> PosesStageStatus:
    """Return the state of the stages that read the photos and find the poses."""
    return await nerf_jobs.poses(await nerf_jobs.find(caller.tenant, job_id), job_id)


@router.post("/colmap/retry/{job_id}", summary="Repeat a failed job", responses=_RETRIED)
async def retry_colmap(caller: Writer, job_id: Name, nerf_jobs: NerfJobsDep) -> ColmapAnswer:
    """Start another attempt of the job, which repeats only what is missing."""
    return await nerf_jobs.submitted(await nerf_jobs.retry(caller.tenant, job_id), job_id)


@router.post("/train", summary="Find the training of a job", responses=_FOUND)
async def start_training(caller: Writer, body: TrainingRequest, nerf_jobs: NerfJobsDep) -> TrainingStageStatus:
    """Return the state of the training, which begins by itself when the poses are found."""
    job = await nerf_jobs.find(caller.tenant, body.colmap_job_id)
    return await nerf_jobs.training(job, _named("train", body.colmap_job_id), body)


@router.get("/train/status/{job_id}", summary="State of the training", responses=_FOUND)
async def training_status(caller: Reader, job_id: Name, nerf_jobs: NerfJobsDep) -> TrainingStageStatus:
    """Return the state of the stage that trains."""
    return await nerf_jobs.training(await nerf_jobs.find(caller.tenant, job_id), job_id)


@router.post("/train/retry/{job_id}", summary="Repeat a failed training", responses=_RETRIED)
async def retry_training(caller: Writer, job_id: Name, nerf_jobs: NerfJobsDep) -> TrainingStageStatus:
    """Start another attempt of the job, which repeats only what is missing."""
    return await nerf_jobs.training(await nerf_jobs.retry(caller.tenant, job_id), job_id)


@router.post("/render", summary="Find the frames of a job", responses=_FOUND)
async def start_rendering(caller: Writer, body: RenderRequest, nerf_jobs: NerfJobsDep) -> RenderingStageStatus:
    """Return the state of the frames, which are rendered when the model is trained."""
    job = await nerf_jobs.find(caller.tenant, body.train_job_id)
    return await nerf_jobs.rendering(job, _named("render", body.train_job_id), body)


@router.get("/render/status/{job_id}", summary="State of the frames", responses=_FOUND)
async def rendering_status(caller: Reader, job_id: Name, nerf_jobs: NerfJobsDep) -> RenderingStageStatus:
    """Return the state of the stage that renders."""
    return await nerf_jobs.rendering(await nerf_jobs.find(caller.tenant, job_id), job_id)


@router.post("/render/retry/{job_id}", summary="Repeat a failed rendering", responses=_RETRIED)
async def retry_rendering(caller: Writer, job_id: Name, nerf_jobs: NerfJobsDep) -> RenderingStageStatus:
    """Start another attempt of the job, which repeats only what is missing."""
    return await nerf_jobs.rendering(await nerf_jobs.retry(caller.tenant, job_id), job_id)


@router.get(
    "/frames/{job_id}/{frame_number}",
    response_class=Response,
    summary="Download one frame",
    responses={
        200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
        **problem_responses(_E.JOB_NOT_FOUND, _E.ARTIFACT_NOT_FOUND, _E.STORAGE_UNAVAILABLE),
    },
)
async def read_frame(
    caller: Reader,
    job_id: Name,
    frame_number: Annotated[int, Path(ge=1, le=14_400, description="From 1 on.")],
    nerf_jobs: NerfJobsDep,
) -> Response:
    """Return a frame as PNG with a transparent background."""
    picture = await nerf_jobs.frame(caller.tenant, job_id, frame_number)
    disposition = f"inline; filename=product_frame_{frame_number:04d}.png"
    return Response(picture, media_type="image/png", headers={"Content-Disposition": disposition})


def _named(stage: str, name: str) -> str:
    """Return the name by which the replaced service's clients know a stage of the job: ``train_…`` for ``colmap_…``."""
    return f"{stage}_{name.removeprefix('colmap_').removeprefix('train_')}"
