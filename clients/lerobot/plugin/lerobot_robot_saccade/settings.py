"""The one environment variable this plugin reads: that which the command line names for the API key."""

from __future__ import annotations

import os


def api_key(variable: str | None) -> str | None:
    """Give the API key; a key on a command line would be seen by everybody on the machine."""
    return os.environ.get(variable) or None if variable else None  # noqa: TID251
