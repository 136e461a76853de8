"""Whether a container engine can be used from here."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache


@cache
def engine_answers() -> bool:
    """Return whether a container engine is available."""
    if not shutil.which("docker"):
        return False
    try:
        return subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=20).returncode == 0
    except subprocess.TimeoutExpired:
        return False
