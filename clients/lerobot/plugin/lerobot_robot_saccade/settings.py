"""API key from the environment variable that the command line names."""

from __future__ import annotations

import os


def api_key(variable: str | None) -> str | None:
    """Return the API key; on a command line every user of the machine could read it."""
    return os.environ.get(variable) or None if variable else None  # noqa: TID251
