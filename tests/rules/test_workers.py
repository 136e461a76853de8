"""Every worker has the same shape, so that the next one is one new folder and nothing else."""

from __future__ import annotations

import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import get_args

import grimp
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from modal_workers.catalog import worker_package, workloads
from tests.rules.tree import ROOT
from tests.rules.worker_shape import FILES, MAX_WORK_LINES, WORK_FILE, check_app, check_declaration, functions_of

#: A pipeline has no worker; the stages in its folder do.
FIXED_OF_PIPELINE = ("spec.py", "README.md")
ALL = ROOT / "modal_workers"
#: Every declared workload's folder: of a pipeline's stage, one below the pipeline's.
DECLARED = sorted(
    folder
    for folder in (*ALL.glob("*"), *ALL.glob("*/*"))
    if any((folder / name).exists() for name in (FILES[0], *WORK_FILE.values()))
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
    return folder / WORK_FILE[workloads()[name_of(folder)].kind]


def test_every_folder_with_a_declaration_is_in_the_catalog() -> None:
    assert sorted(name_of(folder) for folder in DECLARED) == sorted(workloads())


def test_a_result_leads_to_jobs_that_can_be_submitted() -> None:
    """Inputs, rows and parameters of every follow-up exist in both declarations."""
    follow_ups = [(declared, each) for declared in workloads().values() for each in declared.follow_ups]
    assert follow_ups
    for declared, each in follow_ups:
        media = {given.name: given.media for given in declared.inputs}
        then = workloads()[each.workload]
        assert {given.name: given.media for given in then.inputs} == {
            name: media[of] for name, of in each.inputs.items()
        }
        [row] = get_args(declared.result.model_fields[each.rows].annotation)[:1]
        assert {*each.fields.values(), *each.columns} <= set(row.model_fields)
        assert not each.unlikely or row.model_fields[each.unlikely].annotation is bool
        for pick in each.picks:
            params = then.params
            for name in pick.into:
                annotation = params.model_fields[name].annotation
                params = next((one for one in get_args(annotation) if one is not type(None)), annotation)
            assert set(each.fields) <= set(params.model_fields), pick


def test_a_folder_is_named_as_its_workload_or_as_that_declares() -> None:
    for folder in DECLARED:
        declared = workloads()[name_of(folder)]
        assert folder.name == (declared.folder or folder.name)
        assert declared.folder or "_".join(folder.relative_to(ALL).parts) == declared.name
    assert [declared.name for declared in workloads().values() if declared.folder] == ["nerf_exhibit"]


def test_every_worker_has_its_fixed_files() -> None:
    missing = [
        f"{name_of(folder)}/{name}"
        for folder in DECLARED
        for name in (FIXED_OF_PIPELINE if is_pipeline(folder) else FILES)
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
        assert [name for name in ("app.py", *WORK_FILE.values()) if (folder / name).exists()] == []
        assert declared.job == ""
        for stage in declared.stages:
            assert stage.work == f"{declared.name}_{stage.name}"
            work = workloads()[stage.work]
            assert work.kind == "stage"
            assert work.params is declared.params, "every stage takes the pipeline's parameters"
            assert work.inputs == ()
            assert (folder / (work.folder or stage.name) / "spec.py").is_file()
        assert workloads()[declared.stages[-1].work].result is declared.result
    owned = [
        stage.work for declared in workloads().values() if declared.kind == "pipeline" for stage in declared.stages
    ]
    assert sorted(owned) == sorted(declared.name for declared in workloads().values() if declared.kind == "stage")


def test_every_job_is_where_its_declaration_says() -> None:
    for name, workload in workloads().items():
        if workload.kind == "pipeline":
            continue
        module, _, function = workload.job.partition(":")
        path = Path(*module.split(".")).with_suffix(".py")
        assert function in functions_of((ROOT / path).read_text()), f"{name}: {workload.job} is not there"


def test_every_declaration_is_complete() -> None:
    for name, workload in workloads().items():
        check_declaration(name, workload)


def test_an_app_is_a_thin_shell_whose_resources_come_from_the_declaration() -> None:
    for folder in WORKERS:
        check_app(".".join(folder.relative_to(ROOT).parts), (folder / "app.py").read_text())


def test_jobs_read_like_a_table_of_contents() -> None:
    lengths = {name_of(folder): work_of(folder).read_text().count("\n") for folder in WORKERS}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_WORK_LINES} == {}


#: Imported where it is found, or for a parameter's value that the declaration names.
OPTIONAL = {"gsplat", "torchvision", "ultralytics", "vllm"}
#: Imported by a child process, of which the import graph knows nothing.
BY_A_CHILD_PROCESS = {"nerf_poses": {"pycolmap"}}
#: ``flow: raft`` and ``pose: ultralytics``, options, are all that use it.
ONLY_FOR_AN_OPTION = {"lap_compare": {"torch"}, "badminton": {"torch"}}


@cache
def distributions_of(extra: str) -> set[str]:
    """Return what an extra of pyproject.toml installs directly, with the extras that it names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found: set[str] = set()
    for line in project["optional-dependencies"][extra]:
        requirement = Requirement(line)
        if requirement.name == project["name"]:
            found |= {name for other in requirement.extras for name in distributions_of(other)}
        else:
            found.add(canonicalize_name(requirement.name))
    return found


def test_every_worker_declares_what_it_imports_and_an_extra_that_installs_it() -> None:
    graph = grimp.build_graph("modal_workers", "contracts", "kit", include_external_packages=True)
    always = {"pydantic", "pydantic_settings"}
    packages_of = packages_distributions()  # reads the list of files of every installed package: seconds
    for name, declared in workloads().items():
        if declared.kind == "pipeline":
            continue
        imported = {
            module
            for module in graph.find_upstream_modules(declared.job.partition(":")[0])
            if graph.is_module_squashed(module) and module not in sys.stdlib_module_names
        }
        expected = (imported - always - OPTIONAL - ONLY_FOR_AN_OPTION.get(name, set())) | BY_A_CHILD_PROCESS.get(
            name, set()
        )
        modules = {backend for backend in declared.requires if not backend.startswith("/")}
        assert modules == expected, name
        installed = {canonicalize_name(package) for module in modules for package in packages_of[module]}
        assert installed <= distributions_of(declared.extra), name


def test_a_pipelines_extra_installs_what_its_stages_require() -> None:
    for declared in workloads().values():
        for stage in declared.stages if declared.kind == "pipeline" else ():
            assert distributions_of(workloads()[stage.work].extra) <= distributions_of(declared.extra)
