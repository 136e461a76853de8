"""Shape that every worker has: its files, its declaration, its thin Modal app."""

from __future__ import annotations

import ast

from contracts.workload import Workload

FILES = ("spec.py", "app.py", "README.md")
#: File of the work: of a worker that comes to an end, and of one that stays up.
WORK_FILE = {"job": "job.py", "session": "session.py", "stage": "job.py"}
MAX_APP_LINES = 36
MAX_WORK_LINES = 150


def check_app(package: str, source: str) -> None:
    """Assert that an ``app.py`` is a thin shell around its declaration."""
    assert source.count("\n") <= MAX_APP_LINES, f"{package}.app is more than a shell"
    tree = ast.parse(source)
    statements = {ast.unparse(node) for node in tree.body if isinstance(node, ast.Assign | ast.ImportFrom)}
    assert f"from {package}.spec import WORKLOAD" in statements, package
    assert "from modal_workers import images" in statements, package
    assert "DEPLOYMENT = Deployment.of(WORKLOAD)" in statements, package
    assert "app = modal.App(DEPLOYMENT.app_name)" in statements, package
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert [function.name for function in functions] == ["run"], package
    (decorator,) = functions[0].decorator_list
    assert isinstance(decorator, ast.Call), package
    arguments = {keyword.arg or ast.unparse(keyword.value) for keyword in decorator.keywords}
    assert "DEPLOYMENT.options()" in arguments, package
    assert arguments <= {"DEPLOYMENT.options()", "image", "secrets", "volumes"}, f"{package} has figures of its own"


def check_declaration(name: str, workload: Workload) -> None:
    """Assert that a declaration is complete and consistent."""
    assert workload.name == name
    assert abs(sum(stage.share for stage in workload.stages) - 1.0) < 1e-9, f"{name}: shares do not add up to 1"
    assert len({stage.name for stage in workload.stages}) == len(workload.stages)
    undescribed = [field for field, info in workload.params.model_fields.items() if not info.description]
    assert undescribed == [], f"{name}: parameters without a description"
    for backend in workload.backends:
        assert backend.parameter in workload.params.model_fields
    assert all(name.isidentifier() or name.startswith("/") for name in workload.requires), (
        f"{name}: {workload.requires}"
    )
    assert (workload.kind == "pipeline") <= (not workload.requires), f"{name}: its stages require, not the pipeline"
    optional = {declared.name for declared in workload.inputs if declared.minimum == 0}
    assert {name for alternatives in workload.one_of for name in alternatives} <= optional


def functions_of(source: str) -> set[str]:
    """Return the names of a module's functions."""
    return {node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
