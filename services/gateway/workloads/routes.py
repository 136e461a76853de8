"""Route of the workloads that this server offers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

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
    lang: Annotated[
        str, Query(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$", description="Language of the texts: `en` or `de`.")
    ] = "en",
) -> WorkloadList:
    """Return inputs, parameters, results, compute and price per second of each workload, and whether it can run.

    Titles and descriptions are in the language `lang` as far as the workers have them in it, else in English.
    """
    return presenter.all(await backends.known(), lang.partition("-")[0].lower())
