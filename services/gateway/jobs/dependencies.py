"""FastAPI dependencies of the job routes; app.py sets them in the application's state."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from services.gateway.jobs.presenter import JobPresenter
from services.gateway.jobs.service import JobService


async def _job_service(request: Request) -> JobService:
    service: JobService = request.app.state.jobs
    return service


async def _job_presenter(request: Request) -> JobPresenter:
    presenter: JobPresenter = request.app.state.job_presenter
    return presenter


JobServiceDep = Annotated[JobService, Depends(_job_service)]
JobPresenterDep = Annotated[JobPresenter, Depends(_job_presenter)]
