"""Answers of the server about erasures."""

from __future__ import annotations

from typing import Any

from saccade_client.history_views import Shown


class ErasureView(Shown):
    """An erasure: ``requested``, or ``completed`` with its report of what was removed and what remains."""

    id: str
    scope: str
    state: str
    requested_at: str
    completed_at: str | None = None
    tenant_sha256: str
    subject_sha256: str | None = None
    #: ``stores`` with ``removed`` and ``remaining``, ``remains`` with reasons, ``interrupted``.
    report: dict[str, Any] | None = None
