"""An environment variable is read in a settings.py and nowhere else."""

from __future__ import annotations

import ast

from tests.rules.tree import nodes, python_files

CODE = ("contracts", "kit", "services", "modal_workers", "simulators", "cli", "clients")
ALSO = {"kit/auth/api_keys.py"}
READERS = {"environ", "environb", "getenv", "getenvb"}
SETTINGS_LIMIT = 15


def _is_settings_class(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith("BaseSettings") for base in node.bases)


def _may_read(path: str) -> bool:
    return path.endswith("/settings.py") or path in ALSO


def test_settings_classes_stand_in_settings_files() -> None:
    places = {path for path in python_files(*CODE) for node in nodes(path) if _is_settings_class(node)}
    assert places
    assert {path for path in places if not _may_read(path)} == set()


def test_environment_is_not_read_elsewhere() -> None:
    reading = [
        f"{path}:{node.lineno}"
        for path in python_files(*CODE)
        if not _may_read(path)
        for node in nodes(path)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
        and node.attr in READERS
    ]
    assert reading == []


def test_settings_stay_few() -> None:
    sizes = {
        f"{path} {node.name}": sum(isinstance(field, ast.AnnAssign) for field in node.body)
        for path in python_files(*CODE)
        for node in nodes(path)
        if isinstance(node, ast.ClassDef) and _is_settings_class(node)
    }
    assert {name: size for name, size in sizes.items() if size > SETTINGS_LIMIT} == {}
