"""Route of the workloads that this server offers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter

from kit.auth.principal import Reader
from kit.http.app_state import from_app_state
from kit.http.problems import problem_responses
from services.gateway.backends.reported_backends import ReportedBackends
from services.gateway.workloads.presenter import WorkloadPresenter
from services.gateway.workloads.schemas import WorkloadList

router = APIRouter(prefix="/v1/workloads", tags=["workloads"])


@router.get("", summary="List the workloads with their schemas", responses=problem_responses())
async def list_workloads(
    _: Reader,
    presenter: Annotated[WorkloadPresenter, from_app_state("workload_presenter")],
    backends: Annotated[ReportedBackends, from_app_state("backends")],
) -> WorkloadList:
    """Return inputs, parameters, results, compute and price per second of each workload, and whether it can run."""
    return presenter.all(await backends.known())
