"""Representation of workloads in HTTP answers: schemas, compute, prices and estimates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict

from contracts.prices import ALIASES, PRICES, price_usd_per_s
from contracts.workload import Workload
from modal_workers import catalog
from modal_workers.backends import Backends
from modal_workers.workload_texts import WorkloadTexts, translated_schema, workload_texts
from services.gateway.jobs.service import JobService
from services.gateway.workloads.schemas import (
    BackendDeclaration,
    ComputeDeclaration,
    DevicePrice,
    EstimateObject,
    FollowUpDeclaration,
    InputDeclaration,
    StageDeclaration,
    WorkloadList,
    WorkloadObject,
)


class WorkloadPresenter:
    """Builds workload objects from the workers' declarations."""

    def __init__(self, jobs: JobService) -> None:
        """``jobs`` estimates costs."""
        self._jobs = jobs

    def all(self, backends: Backends, language: str = "en") -> WorkloadList:
        """Return every workload that a client can request; stages of pipelines are not requested directly."""
        workloads = catalog.workloads().values()
        return WorkloadList(
            data=[self._present(workload, backends, language) for workload in workloads if workload.kind != "stage"]
        )

    def _present(self, workload: Workload, backends: Backends, language: str) -> WorkloadObject:
        assert workload.kind != "stage"
        missing = backends.missing(workload)
        texts = workload_texts(workload.name, language)
        schema = workload.params.model_json_schema()
        titles = texts.inputs if texts else {}
        return WorkloadObject(
            name=workload.name,
            title=texts.title if texts else workload.title,
            description=texts.description if texts else workload.description,
            version=workload.version,
            kind=workload.kind,
            available=not missing,
            missing=missing,
            enable=backends.enable(workload) if missing else None,
            inputs=[
                InputDeclaration.model_validate(vars(given) | {"title": titles.get(given.name, given.title)})
                for given in workload.inputs
            ],
            one_of=[list(alternatives) for alternatives in workload.one_of],
            params_schema=translated_schema(schema, texts) if texts else schema,
            result_schema=workload.result.model_json_schema(),
            stages=list(self._stages(workload, texts.stages if texts else {})),
            compute=_compute(workload),
            estimate=self._estimate(workload),
            backends=[
                BackendDeclaration(
                    parameter=option.parameter,
                    value=option.value,
                    package=option.package,
                    installed=backends.has(option.package),
                )
                for option in workload.backends
            ],
            follow_ups=list(_follow_ups(workload, texts)),
        )

    def _stages(self, workload: Workload, titles: Mapping[str, str]) -> Iterator[StageDeclaration]:
        is_pipeline = workload.kind == "pipeline"
        defaults = workload.params() if is_pipeline else None
        for stage in workload.stages:
            stage_workload = catalog.workload(stage.work) if is_pipeline else None
            shards = stage.shards(defaults) if is_pipeline and stage.needed(defaults) else 0
            yield StageDeclaration(
                name=stage.name,
                title=titles.get(stage.name, stage.title),
                share=stage.share,
                compute=_compute(stage_workload) if stage_workload else None,
                estimate=self._estimate(stage_workload) if stage_workload else None,
                shards=shards if is_pipeline else None,
            )

    def _estimate(self, workload: Workload) -> EstimateObject:
        return EstimateObject.model_validate(vars(self._jobs.estimate(workload)))


def _follow_ups(workload: Workload, texts: WorkloadTexts | None) -> Iterator[FollowUpDeclaration]:
    for number, declared in enumerate(workload.follow_ups):
        shown = asdict(declared)
        if texts:
            told = texts.follow_ups[number]
            picks = [pick | {"title": title} for pick, title in zip(shown["picks"], told.picks, strict=True)]
            shown |= {"title": told.title, "picks": picks, "columns": told.columns}
        yield FollowUpDeclaration.model_validate(shown)


def _price(device: str) -> DevicePrice:
    usd_per_s = price_usd_per_s(device)
    price = PRICES[ALIASES.get(device, device)]
    return DevicePrice(
        device=device, usd_per_s=usd_per_s, read_on=price.read_on, source=price.source, confirmed=price.confirmed
    )


def _compute(workload: Workload) -> ComputeDeclaration:
    compute = workload.compute
    return ComputeDeclaration(
        gpus=list(compute.gpus),
        cpu_cores=compute.cpu_cores,
        memory_bytes=compute.memory_bytes,
        timeout_s=compute.timeout_s,
        prices=[_price(device) for device in compute.gpus or ("local", "cpu")],
    )
