"""Which device a worker was really given: Modal may give a larger one than was asked for."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Final

#: What nvidia-smi calls a device, by the name that prices and ladders have for it; the first that fits.
_NAMES: Final = (
    (re.compile(r"\bT4\b"), "T4"),
    (re.compile(r"\bL40S\b"), "L40S"),
    (re.compile(r"\bL4\b"), "L4"),
    (re.compile(r"\bA10G?\b"), "A10"),
    (re.compile(r"\bA100\b.*\b80GB\b"), "A100-80GB"),
    (re.compile(r"\bA100\b"), "A100-40GB"),
    (re.compile(r"\bH200\b"), "H200"),
    (re.compile(r"\bH100\b"), "H100"),
    (re.compile(r"\bB200\b"), "B200"),
)
_ANSWER_S: Final = 10.0


def name_of(product: str) -> str | None:
    """Translate a product's name, ``NVIDIA A100-SXM4-80GB``; None for one that is not in the table."""
    return next((name for pattern, name in _NAMES if pattern.search(product)), None)


def real_device(asked: str) -> str:
    """Name the device of this machine; ``asked`` where that cannot be known.

    It is reported, and paid for as what was asked for: Modal does not charge for a larger one that it chose itself
    (https://modal.com/docs/guide/gpu).
    """
    if asked == "cpu" or shutil.which("nvidia-smi") is None:
        return asked
    try:
        told = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],  # noqa: S607 - where it lies is the image's
            capture_output=True,
            text=True,
            timeout=_ANSWER_S,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return asked
    return name_of(told.partition("\n")[0]) or asked
