"""Environment of the checks: this process's variables, and those of an environment file of compose."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

COMPOSE: Final = "docker-compose.yml"
_REFERENCE: Final = re.compile(r"\$\{([A-Z][A-Z0-9_]*)(?::?(?:-([^}]*)|\?[^}]*))?\}")


def variables() -> dict[str, str]:
    """Return the environment variables of this process."""
    return dict(os.environ)  # noqa: TID251


def adopt(values: Mapping[str, str]) -> None:
    """Set variables that are not set, as compose does with its file: settings classes read the environment."""
    for name, value in values.items():
        os.environ.setdefault(name, value)  # noqa: TID251


def replace_variables(values: Mapping[str, str]) -> None:
    """Set variables, also those that are set: what a compose file gives its containers regardless."""
    os.environ.update(values)  # noqa: TID251


def compose_text(project: Path) -> str:
    """Return the compose file of a folder, with the files that are added to it by `-f`."""
    return "\n".join(
        path.read_text() for path in (project / COMPOSE, *sorted((project / "deploy").glob("compose.*.yml")))
    )


def read_file(file: Path) -> dict[str, str]:
    """Return the variables of an environment file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no text.
    """
    with file.open(encoding="utf-8") as lines:
        return {name: value for name, value in dotenv_values(stream=lines).items() if value is not None}


def compose_defaults(text: str) -> dict[str, str]:
    """Return the variables that a compose file refers to, with their defaults."""
    found: dict[str, str] = {}
    for name, default in _REFERENCE.findall(text):
        found[name] = found.get(name) or default
    return found
