"""Every worker has the same shape, so that the next one is one new folder and nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

from modal_workers.catalog import workloads
from tests.rules.tree import ROOT, parsed

FIXED = ("spec.py", "app.py", "README.md")
#: Where its work stands: of a worker that comes to an end, and of one that stays up.
WORK = {"job": "job.py", "session": "session.py"}
WORKERS = sorted(
    folder
    for folder in (ROOT / "modal_workers").iterdir()
    if any((folder / name).exists() for name in (FIXED[0], *WORK.values()))
)


def work_of(folder: Path) -> Path:
    return folder / WORK[workloads()[folder.name].kind]


def test_there_are_workers() -> None:
    assert [folder.name for folder in WORKERS] == sorted(workloads())


def test_every_worker_has_its_fixed_files() -> None:
    missing = [f"{folder.name}/{name}" for folder in WORKERS for name in FIXED if not (folder / name).is_file()]
    assert missing == []
    assert [folder.name for folder in WORKERS if not work_of(folder).is_file()] == []


def test_every_job_is_where_its_declaration_says() -> None:
    for name, workload in workloads().items():
        module, _, function = workload.job.partition(":")
        path = Path(*module.split(".")).with_suffix(".py")
        functions = {node.name for node in parsed(path.as_posix()).body if isinstance(node, ast.FunctionDef)}
        assert function in functions, f"{name}: {workload.job} is not there"


def test_every_declaration_is_complete() -> None:
    for name, workload in workloads().items():
        assert workload.name == name
        assert abs(sum(stage.share for stage in workload.stages) - 1.0) < 1e-9, f"{name}: shares do not add up to 1"
        assert len({stage.name for stage in workload.stages}) == len(workload.stages)
        undescribed = [field for field, info in workload.params.model_fields.items() if not info.description]
        assert undescribed == [], f"{name}: parameters without a description"
        for backend in workload.backends:
            assert backend.parameter in workload.params.model_fields


def test_an_app_is_a_thin_shell_whose_figures_are_its_declaration_s() -> None:
    for folder in WORKERS:
        path = f"modal_workers/{folder.name}/app.py"
        assert (ROOT / path).read_text().count("\n") <= 50, f"{path} is more than a shell"
        tree = parsed(path)
        given = {ast.unparse(node) for node in tree.body if isinstance(node, ast.Assign | ast.ImportFrom)}
        assert f"from modal_workers.{folder.name}.spec import WORKLOAD" in given, path
        assert "DEPLOYMENT = Deployment.of(WORKLOAD)" in given, path
        assert "app = modal.App(DEPLOYMENT.app_name)" in given, path
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        assert [function.name for function in functions] == ["run"], path
        (decorator,) = functions[0].decorator_list
        assert isinstance(decorator, ast.Call), path
        asked = {keyword.arg or ast.unparse(keyword.value) for keyword in decorator.keywords}
        assert "DEPLOYMENT.options()" in asked, path
        assert asked <= {"DEPLOYMENT.options()", "image", "secrets", "volumes"}, f"{path} has figures of its own"


def test_jobs_read_like_a_table_of_contents() -> None:
    lengths = {folder.name: work_of(folder).read_text().count("\n") for folder in WORKERS}
    assert {name: lines for name, lines in lengths.items() if lines > 150} == {}
