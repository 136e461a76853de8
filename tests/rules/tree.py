"""The files of the repository as the rules see them: what git tracks or would track, nothing that was built."""

from __future__ import annotations

import ast
import gc
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = ("contracts", "kit", "services", "modal_workers", "simulators", "cli", "deploy", "docs", "bench", "clients")


@cache
def files() -> tuple[str, ...]:
    """Return the paths of all files, from the root."""
    git = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(git, capture_output=True, text=True, check=False, timeout=300)
    if found.returncode == 0:
        paths = [Path(line) for line in found.stdout.splitlines()]
    else:  # an unpacked archive
        paths = [path.relative_to(ROOT) for path in ROOT.rglob("*")]
        paths = [
            path for path in paths if not any(part.startswith(".") or part == "__pycache__" for part in path.parts)
        ]
    return tuple(sorted(path.as_posix() for path in paths if (ROOT / path).is_file()))


def python_files(*folders: str) -> list[str]:
    """Return the Python files under some top-level folders."""
    return [path for path in files() if path.endswith(".py") and path.partition("/")[0] in folders]


@cache
def parsed(path: str) -> ast.Module:
    """Parse a file, once."""
    text = (ROOT / path).read_text()
    _collect_garbage()
    gc.disable()
    try:
        return ast.parse(text, path)
    finally:
        # The trees stay. Looking through them for garbage as they grow took more CPU time than the parser.
        gc.freeze()
        gc.enable()


@cache
def _collect_garbage() -> None:
    """Collect what earlier tests of the process left, so that it is not kept together with the trees."""
    gc.collect()


@cache
def nodes(path: str) -> tuple[ast.AST, ...]:
    """Return all nodes of a file's tree, as `ast.walk` does, once."""
    return tuple(ast.walk(parsed(path)))
