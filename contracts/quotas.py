"""Table of the quotas of a tenant, and the decisions by them. Pure: who counts, and what with, is the services' part.

Three kinds: a *rate* is refilled by time (``rate_limited``, with Retry-After), a *level* is freed by what ends or is
deleted (``quota_exceeded``), and of a *part* of a stream nothing is refused: the tenant's own oldest are deleted.
docs/quotas.md has this table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import TENANT_PATTERN
from contracts.limits import GIB, MIB
from contracts.token_bucket import TokenBucket, Tokens

#: Tenant of the entry of a keys file that changes the defaults of all tenants.
ALL_TENANTS: Final = "*"
_DAY_S: Final = 86_400.0
#: Part of a stream that tenants fill as they like, and the part that is shared evenly from then on. The rest is for
#: changes of what is stored: a stream that is full takes none.
_FREE_SHARE: Final = 0.75
_RESERVED_SHARE: Final = 0.2


class QuotaName(StrEnum):
    """Every quota, by the name that answers, metrics and the keys file have."""

    REQUESTS = "requests"
    OPEN_REQUESTS = "open_requests"
    EVENTS = "events"
    IDEMPOTENCY_KEYS = "idempotency_keys"
    UNFINISHED_JOBS = "unfinished_jobs"
    UNFINISHED_INPUT_BYTES = "unfinished_input_bytes"
    STORAGE_BYTES = "storage_bytes"
    SESSIONS = "sessions"
    EVENT_STREAMS = "event_streams"
    SESSION_SOCKETS = "session_sockets"
    SOCKET_MESSAGES = "socket_messages"
    OBJECT_READS = "object_reads"
    WEBHOOKS = "webhooks"
    DELETED_WEBHOOKS = "deleted_webhooks"
    WEBHOOK_BYTES = "webhook_bytes"
    CALLBACK_VIDEOS = "callback_videos"
    CAPTION_BYTES = "caption_bytes"
    TELEMETRY_BYTES = "telemetry_bytes"
    DELIVERY_BYTES = "delivery_bytes"
    DEAD_LETTER_BYTES = "dead_letter_bytes"


@dataclass(frozen=True)
class Quota:
    """One quota: its default, what it counts and where, and what a user does who has reached it."""

    name: QuotaName
    default: int
    #: What is counted, in the plural.
    counts: str
    #: What to do; for a level also what frees it.
    advice: str
    #: Code of the refusal; a rate is always ``rate_limited``.
    code: ErrorCode = ErrorCode.QUOTA_EXCEEDED
    #: Whether nothing is refused: when there is no room for all, the tenant's oldest beyond it are deleted.
    deletes_oldest: bool = False
    #: Whether all processes count together; otherwise each allows as much, as with every rate.
    exact: bool = True
    #: Period of a rate; None for a level.
    period_s: float | None = None
    #: Periods whose whole amount may be used at once after a rest.
    burst_periods: float = 1.0


_Q = QuotaName
_LIMITED: Final = ErrorCode.RATE_LIMITED
QUOTAS: Final[Mapping[QuotaName, Quota]] = {
    quota.name: quota
    for quota in (
        Quota(_Q.REQUESTS, 200, "requests", "Follow events instead of polling.", period_s=1.0, burst_periods=10.0),
        Quota(
            _Q.OPEN_REQUESTS, 1_000, "requests without their answer",
            "Follow events instead of waiting for many answers.",
            code=_LIMITED, exact=False,
        ),
        Quota(_Q.EVENTS, 6_000, "events", "Submit and change less at a time.", period_s=60.0),
        Quota(
            _Q.IDEMPOTENCY_KEYS, 100_000, "new Idempotency-Keys", "Or send the request without a key.", period_s=_DAY_S
        ),
        Quota(_Q.UNFINISHED_JOBS, 10_000, "unfinished jobs", "Wait until jobs end, or cancel some."),
        Quota(
            _Q.UNFINISHED_INPUT_BYTES, 500 * GIB, "bytes of uploads that are not completed",
            "Complete or delete uploads; the others expire a day after they were created.",
        ),
        Quota(_Q.STORAGE_BYTES, 10_240 * GIB, "bytes of completed uploads", "Delete some: DELETE /v1/uploads/{id}."),
        Quota(_Q.SESSIONS, 200, "live sessions", "Stop a session, or wait until one ends."),
        Quota(
            _Q.EVENT_STREAMS, 1_000, "open event streams", "Close some of them; one stream can follow all events.",
            code=_LIMITED, exact=False,
        ),
        Quota(
            _Q.SESSION_SOCKETS, 200, "open WebSockets of sessions and badminton pages",
            "Close some of them, then connect again.",
            code=_LIMITED, exact=False,
        ),
        Quota(
            _Q.SOCKET_MESSAGES, 5_000, "messages from WebSockets",
            "Send several samples of joints in one message; until then your messages wait.", period_s=1.0,
        ),
        Quota(
            _Q.OBJECT_READS, 16, "files that are being read through the gateway",
            "Read those to their end, or close them; while other tenants read too, your share may be less.",
            code=_LIMITED, exact=False,
        ),
        Quota(
            _Q.WEBHOOKS, 100, "webhook endpoints", "Delete an endpoint that you do not need any more.",
            code=ErrorCode.TOO_MANY_WEBHOOKS,
        ),
        Quota(
            _Q.DELETED_WEBHOOKS, 1_000, "deleted webhook endpoints",
            "Change an endpoint with PATCH instead of creating it anew; a deleted one is forgotten after 35 days.",
        ),
        Quota(
            _Q.WEBHOOK_BYTES, 8 * MIB, "bytes of webhook endpoints",
            "Shorten headers and templates, and change an endpoint instead of creating it anew; a deleted one is "
            "forgotten after 35 days.",
        ),
        Quota(
            _Q.CALLBACK_VIDEOS, 10_000, "videos of the badminton endpoint",
            "Send a video again with its own videoId; one is forgotten 30 days after its last request or callback.",
        ),
        Quota(
            _Q.CAPTION_BYTES, 16 * MIB, "bytes of uploaded captions", "Upload fewer or shorter captions.",
            period_s=_DAY_S,
        ),
        Quota(
            _Q.TELEMETRY_BYTES, 2 * GIB, "bytes of sessions' telemetry", "Record fewer or smaller frames.",
            deletes_oldest=True,
        ),
        Quota(
            _Q.DELIVERY_BYTES, 1 * GIB, "bytes of records of webhook attempts",
            "Subscribe to fewer events, and delete endpoints that do not answer.", deletes_oldest=True,
        ),
        Quota(
            _Q.DEAD_LETTER_BYTES, 512 * MIB, "bytes of dead letters of events", "Settle them, and mend their handler.",
            deletes_oldest=True,
        ),
    )
}  # fmt: skip


class TenantQuotas(BaseModel):
    """Entry of the keys file with the limits of one tenant, or of ``*`` for all that have no entry of their own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: str = Field(pattern=rf"{TENANT_PATTERN}|^\*$")
    quotas: dict[QuotaName, int]


@dataclass(frozen=True)
class QuotaLimits:
    """Limits of all tenants: the defaults, and the entries of the keys file."""

    by_tenant: Mapping[str, Mapping[QuotaName, int]]

    @classmethod
    def of(cls, entries: list[TenantQuotas]) -> QuotaLimits:
        """Return the limits that entries give; a later entry of a tenant goes on from an earlier one."""
        by_tenant: dict[str, dict[QuotaName, int]] = {}
        for entry in entries:
            by_tenant.setdefault(entry.tenant, {}).update(entry.quotas)
        return cls(by_tenant)

    def override(self, tenant: str, name: QuotaName) -> int | None:
        """Return the limit that the keys file sets for a tenant; None for the default."""
        for key in (tenant, ALL_TENANTS):
            if (limit := self.by_tenant.get(key, {}).get(name)) is not None:
                return limit
        return None


def take(quota: Quota, limit: int, tokens: Tokens | None, now_s: float, count: float) -> tuple[Tokens, float]:
    """Take ``count`` from what is left of a rate, and return what is left then.

    The second value is 0, or the time after which so much is left: then nothing was taken.
    """
    assert quota.period_s is not None
    bucket = TokenBucket(limit * quota.burst_periods, limit / quota.period_s)
    tokens, wait_s = bucket.take(tokens, now_s, count)
    return tokens, quota.period_s if math.isinf(wait_s) else wait_s


def rate_refusal(quota: Quota, limit: int, wait_s: float, now: datetime) -> SaccadeError:
    """Return the answer to a request beyond a rate."""
    assert quota.period_s is not None
    per = {1.0: "second", 60.0: "minute", _DAY_S: "day"}[quota.period_s]
    message = f"You have used your quota of {limit:,} {quota.counts} a {per}; go on in {wait_s:.1f} s."
    return SaccadeError(
        ErrorCode.RATE_LIMITED,
        message,
        hint=f"Wait for the seconds in Retry-After and try again. {quota.advice}",
        retry_after_s=round(wait_s, 3),
        quota=_facts(quota, limit, limit, now + timedelta(seconds=wait_s)),
    )


def level_refusal(quota: Quota, limit: int, used: int, wanted: int = 1) -> SaccadeError | None:
    """Return the answer to a request that would go beyond a level; None when it does not."""
    if used + wanted <= limit:
        return None
    message = f"Your quota is {limit:,} {quota.counts}; {used:,} are in use" + (
        f", and this needs {wanted:,} more." if wanted != 1 else "."
    )
    facts = _facts(quota, limit, used, None)
    return SaccadeError(quota.code, message, hint=quota.advice, quota=facts)


def part_of_reserve(used_bytes: int, max_bytes: int, tenants: int) -> int | None:
    """Return how many bytes one of ``tenants`` may have in a stream of all; None while there is room for all.

    Who has less, and who comes anew, still stores something when others have filled what is free.
    """
    if max_bytes <= 0 or used_bytes < _FREE_SHARE * max_bytes:
        return None
    return int(_RESERVED_SHARE * max_bytes / max(1, tenants))


def kept_bytes(used: Mapping[str, int], limits: Mapping[str, int], room_bytes: int) -> dict[str, int]:
    """Return how many bytes each tenant keeps, so that all together have at most ``room_bytes``.

    None keeps more than its limit. If that is not enough, those with most keep an even part, and the others all.
    """
    wanted = {tenant: min(size, limits[tenant]) for tenant, size in used.items()}
    kept: dict[str, int] = {}
    for tenant in sorted(wanted, key=lambda tenant: wanted[tenant]):
        kept[tenant] = min(wanted[tenant], room_bytes // (len(wanted) - len(kept)))
        room_bytes -= kept[tenant]
    return kept


def _facts(quota: Quota, limit: int, used: int, until: datetime | None) -> dict[str, Any]:
    """Return what a program needs: name, limit, what is used, and when there is more; null if only an end frees it."""
    return {
        "name": str(quota.name),
        "limit": limit,
        "used": used,
        "until": until.isoformat(timespec="milliseconds") if until else None,
    }
