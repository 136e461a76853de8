"""FastAPI dependencies of the job routes; app.py sets the objects in the application's state."""

from __future__ import annotations

from typing import Annotated

from kit.http.app_state import from_app_state
from services.gateway.jobs.check_presenter import JobCheckPresenter
from services.gateway.jobs.early_jobs import EarlyJobs
from services.gateway.jobs.past_jobs import PastJobs
from services.gateway.jobs.presenter import JobPresenter
from services.gateway.jobs.service import JobService
from services.gateway.jobs.url_jobs import UrlJobs

JobServiceDep = Annotated[JobService, from_app_state("jobs")]
UrlJobsDep = Annotated[UrlJobs, from_app_state("url_jobs")]
JobCheckPresenterDep = Annotated[JobCheckPresenter, from_app_state("job_checks")]
JobPresenterDep = Annotated[JobPresenter, from_app_state("job_presenter")]
EarlyJobsDep = Annotated[EarlyJobs, from_app_state("early_jobs")]
PastJobsDep = Annotated[PastJobs, from_app_state("past_jobs")]
