"""Catalog of workloads: a worker finds its own without the others."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from contracts.errors import ErrorCode, SaccadeError
from modal_workers import catalog


def _specifications_imported_for(name: str) -> list[str]:
    program = (
        f"import sys; from modal_workers import catalog; catalog.workload({name!r}); catalog.worker_package({name!r});"
        " print(*sorted(module for module in sys.modules if module.endswith('.spec')))"
    )
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    return shown.stdout.split()


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("lap_compare", "modal_workers.lap_compare.spec"),
        ("nerf_training", "modal_workers.nerf.training.spec"),
    ],
)
def test_a_worker_imports_no_other_specification(name: str, module: str) -> None:
    assert _specifications_imported_for(name) == [module]


def test_a_worker_is_found_whose_folder_has_another_name() -> None:
    assert catalog.worker_package("nerf_exhibit") == "modal_workers.nerf.report"


def test_each_worker_is_the_one_of_the_whole_catalog() -> None:
    for name, declared in catalog.workloads().items():
        assert catalog.workload(name) is declared
        assert importlib.import_module(f"{catalog.worker_package(name)}.spec").WORKLOAD is declared


def test_two_workers_with_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "further_workers" / "laps"
    folder.mkdir(parents=True)
    (folder / "spec.py").write_text("from modal_workers.lap_compare.spec import WORKLOAD\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("WORKER_CATALOG", "further_workers")
    catalog.forget_found()
    try:
        with pytest.raises(ValueError, match=r"lap_compare and further_workers\.laps declare the same workload"):
            catalog.workloads()
    finally:
        catalog.forget_found()


@pytest.mark.parametrize("name", ["", "compare", "workers", "no_such", "spec", "lap-compare"])
def test_a_name_that_no_worker_has_is_refused(name: str) -> None:
    with pytest.raises(SaccadeError) as refused:
        catalog.workload(name)
    assert refused.value.code is ErrorCode.UNKNOWN_WORKLOAD
