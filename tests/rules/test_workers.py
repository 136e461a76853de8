"""Every worker has the same shape, so that the next one is one new folder and nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

from modal_workers.catalog import worker_package, workloads
from tests.rules.tree import ROOT, parsed

FIXED = ("spec.py", "app.py", "README.md")
#: A pipeline has no worker; the stages in its folder do.
FIXED_OF_PIPELINE = ("spec.py", "README.md")
#: Where its work stands: of a worker that comes to an end, and of one that stays up.
WORK = {"job": "job.py", "session": "session.py", "stage": "job.py"}
ALL = ROOT / "modal_workers"
#: Every declared workload's folder: of a pipeline's stage, one below the pipeline's.
DECLARED = sorted(
    folder
    for folder in (*ALL.glob("*"), *ALL.glob("*/*"))
    if any((folder / name).exists() for name in (FIXED[0], *WORK.values()))
)


#: Workloads by the folder in which the catalog found them.
NAMES = {ROOT.joinpath(*worker_package(name).split(".")): name for name in workloads()}


def name_of(folder: Path) -> str:
    return NAMES.get(folder, "_".join(folder.relative_to(ALL).parts))


def is_pipeline(folder: Path) -> bool:
    return workloads()[name_of(folder)].kind == "pipeline"


#: Those with a worker.
WORKERS = [folder for folder in DECLARED if not is_pipeline(folder)]


def work_of(folder: Path) -> Path:
    return folder / WORK[workloads()[name_of(folder)].kind]


def test_every_folder_with_a_declaration_is_in_the_catalog() -> None:
    assert sorted(name_of(folder) for folder in DECLARED) == sorted(workloads())


def test_a_folder_is_named_as_its_workload_or_as_that_declares() -> None:
    for folder in DECLARED:
        declared = workloads()[name_of(folder)]
        assert folder.name == (declared.folder or folder.name)
        assert declared.folder or "_".join(folder.relative_to(ALL).parts) == declared.name
    assert [one.name for one in workloads().values() if one.folder] == ["nerf_exhibit"]


def test_every_worker_has_its_fixed_files() -> None:
    missing = [
        f"{name_of(folder)}/{name}"
        for folder in DECLARED
        for name in (FIXED_OF_PIPELINE if is_pipeline(folder) else FIXED)
        if not (folder / name).is_file()
    ]
    assert missing == []
    assert [name_of(folder) for folder in WORKERS if not work_of(folder).is_file()] == []


def test_a_pipeline_has_no_worker_and_its_stages_are_below_it() -> None:
    for folder in DECLARED:
        declared = workloads()[name_of(folder)]
        if not is_pipeline(folder):
            assert all(stage.work == "" for stage in declared.stages), f"{declared.name} is no pipeline"
            continue
        assert [name for name in ("app.py", *WORK.values()) if (folder / name).exists()] == []
        assert declared.job == ""
        for stage in declared.stages:
            assert stage.work == f"{declared.name}_{stage.name}"
            work = workloads()[stage.work]
            assert work.kind == "stage"
            assert work.params is declared.params, "every stage takes the pipeline's parameters"
            assert work.inputs == ()
            assert (folder / (work.folder or stage.name) / "spec.py").is_file()
        assert workloads()[declared.stages[-1].work].result is declared.result
    owned = [stage.work for one in workloads().values() if one.kind == "pipeline" for stage in one.stages]
    assert sorted(owned) == sorted(one.name for one in workloads().values() if one.kind == "stage")


def test_every_job_is_where_its_declaration_says() -> None:
    for name, workload in workloads().items():
        if workload.kind == "pipeline":
            continue
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
        alone = {one.name for one in workload.inputs if one.minimum == 0}
        assert {name for several in workload.one_of for name in several} <= alone


def test_an_app_is_a_thin_shell_whose_figures_are_its_declaration_s() -> None:
    for folder in WORKERS:
        package = ".".join(folder.relative_to(ROOT).parts)
        path = f"{folder.relative_to(ROOT).as_posix()}/app.py"
        assert (ROOT / path).read_text().count("\n") <= 36, f"{path} is more than a shell"
        tree = parsed(path)
        given = {ast.unparse(node) for node in tree.body if isinstance(node, ast.Assign | ast.ImportFrom)}
        assert f"from {package}.spec import WORKLOAD" in given, path
        assert "from modal_workers import images" in given, path
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
    lengths = {name_of(folder): work_of(folder).read_text().count("\n") for folder in WORKERS}
    assert {name: lines for name, lines in lengths.items() if lines > 150} == {}
