"""Identifiers: a short prefix and a UUIDv7 in lower case, so that ids sort by creation time."""

from __future__ import annotations

import hashlib
import os
import re
import time
import uuid
from datetime import UTC, datetime
from typing import Final, Literal

Prefix = Literal[
    "job", "upl", "ses", "whk", "evt", "run", "req", "prm", "rul", "grp", "ops", "dlp", "rpl", "ers", "bak", "jbp"
]

TENANT_PATTERN: Final = r"^[a-z0-9][a-z0-9_-]{0,62}$"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
#: Ids of jobs: independent jobs, and jobs of one shard of a pipeline's stage.
JOB_ID_PATTERN: Final = f"^(job_{_UUID}|stg_{_UUID}-[a-z][a-z0-9_]*-[0-9]{{3}})$"
#: Prefix of the ids of stages' jobs.
STAGE_PREFIX: Final = "stg_"
#: Noun of the events of a thing by the prefix of its id.
NOUNS_BY_PREFIX: Final = {
    "job": "job",
    "stg": "job",
    "ses": "session",
    "upl": "upload",
    "rul": "rule",
    "grp": "group",
    "whk": "webhook",
}


def new_id(prefix: Prefix) -> str:
    """Return a new id such as ``job_0198c0de-…``.

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


def derived_id(prefix: Prefix, first: str, *parts: str) -> str:
    """Return the id that follows from other ids: always the same for the same ones, with the time of ``first``.

    Two processes that decide the same thing so give its result the same id, and only one of them can store it.
    """
    uuid_text = first.partition("_")[2]
    digest = int.from_bytes(hashlib.sha256("\n".join((prefix, first, *parts)).encode()).digest()[:10])
    value = (
        uuid.UUID(uuid_text).int >> 80 << 80
        | 0x7 << 76
        | (digest >> 64 & 0xFFF) << 64
        | 0b10 << 62
        | digest & (1 << 62) - 1
    )
    return f"{prefix}_{uuid.UUID(int=value)}"


def time_of(made_id: str) -> datetime:
    """Return the time that an id holds, in milliseconds: when it was made, or when the first of its origins was."""
    return datetime.fromtimestamp((uuid.UUID(made_id.partition("_")[2]).int >> 80) / 1000, UTC)


def is_id(text: str, prefix: Prefix) -> bool:
    """Return whether ``text`` is an id with this prefix."""
    return re.fullmatch(f"{prefix}_{_UUID}", text) is not None


def id_pattern(prefix: Prefix) -> str:
    """Return the anchored regular expression of ids with this prefix, for OpenAPI and validation."""
    return f"^{prefix}_{_UUID}$"


def stage_job_id(job_id: str, stage: str, shard: int) -> str:
    """Return the id of the job of one shard of a pipeline's stage; it is deterministic."""
    return f"stg_{job_id.removeprefix('job_')}-{stage}-{shard:03d}"


def is_job_id(text: str) -> bool:
    """Return whether ``text`` is the id of a job, including jobs of pipelines' stages."""
    return re.fullmatch(JOB_ID_PATTERN, text) is not None


def pipeline_id_of(job_id: str) -> str | None:
    """Return the pipeline's id of a stage's job; None for an independent job."""
    if not job_id.startswith(STAGE_PREFIX):
        return None
    found = re.fullmatch(f"stg_({_UUID})-[a-z][a-z0-9_]*-[0-9]{{3}}", job_id)
    return f"job_{found[1]}" if found else None
