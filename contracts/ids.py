"""Identifiers: a short prefix and a UUIDv7 in lower-case text, so that ids sort by creation time."""

from __future__ import annotations

import os
import re
import time
import uuid
from typing import Final, Literal

Prefix = Literal["job", "upl", "ses", "whk", "evt", "run", "req"]

TENANT_PATTERN: Final = r"^[a-z0-9][a-z0-9_-]{0,62}$"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
#: Ids of jobs: of those of their own, and of those that do a shard of a pipeline's stage.
JOB_ID_PATTERN: Final = f"^(job_{_UUID}|stg_{_UUID}-[a-z][a-z0-9_]*-[0-9]{{3}})$"
#: With what the id of a stage's job begins, and no other id.
STAGE_PREFIX: Final = "stg_"


def new_id(prefix: Prefix) -> str:
    """Make a new id such as ``job_0198c0de-…``.

    Source: RFC 9562, section 5.7 (UUIDv7: 48 bits of Unix milliseconds, then random bits).
    """
    stamp_ms = time.time_ns() // 1_000_000
    random_bits = int.from_bytes(os.urandom(10))
    value = (
        (stamp_ms & (1 << 48) - 1) << 80
        | 0x7 << 76
        | (random_bits >> 64 & 0xFFF) << 64
        | 0b10 << 62
        | random_bits & (1 << 62) - 1
    )
    return f"{prefix}_{uuid.UUID(int=value)}"


def is_id(text: str, prefix: Prefix) -> bool:
    """Tell whether ``text`` is an id with this prefix."""
    return re.fullmatch(f"{prefix}_{_UUID}", text) is not None


def id_pattern(prefix: Prefix) -> str:
    """Give the anchored regular expression of ids with this prefix, for OpenAPI and validation."""
    return f"^{prefix}_{_UUID}$"


def stage_job_id(job_id: str, stage: str, shard: int) -> str:
    """Name the job of one shard of one stage of a pipeline: the same name, whoever makes it and however often."""
    return f"stg_{job_id.removeprefix('job_')}-{stage}-{shard:03d}"


def is_job_id(text: str) -> bool:
    """Tell whether ``text`` is the id of a job, a pipeline's stage's among them."""
    return re.fullmatch(JOB_ID_PATTERN, text) is not None


def pipeline_id_of(job_id: str) -> str | None:
    """Give the pipeline's id of a stage's job; None for a job of its own."""
    if not job_id.startswith(STAGE_PREFIX):
        return None
    found = re.fullmatch(f"stg_({_UUID})-[a-z][a-z0-9_]*-[0-9]{{3}}", job_id)
    return f"job_{found[1]}" if found else None
