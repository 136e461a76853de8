"""Route of the workloads that this server offers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from kit.auth.principal import Reader
from kit.http.problems import problem_responses
from services.gateway.workloads.presenter import WorkloadPresenter
from services.gateway.workloads.schemas import WorkloadList

router = APIRouter(prefix="/v1/workloads", tags=["workloads"])


async def _workload_presenter(request: Request) -> WorkloadPresenter:
    presenter: WorkloadPresenter = request.app.state.workload_presenter
    return presenter


@router.get("", summary="List the workloads with their schemas", responses=problem_responses())
async def list_workloads(
    _: Reader, presenter: Annotated[WorkloadPresenter, Depends(_workload_presenter)]
) -> WorkloadList:
    """Return inputs, parameters, results, compute and price per second of each workload."""
    return presenter.all()
