"""Jobs by the content of their artifacts: an upload that is byte for byte the result of a rule's job. Bounded."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

#: Artifacts that are remembered, the newest ones; each takes 250 bytes.
ARTIFACTS_KEPT: Final = 10_000


class ArtifactJobs:
    """The newest artifacts of jobs that rules submitted, by tenant and SHA-256."""

    def __init__(self, kept: int = ARTIFACTS_KEPT) -> None:
        """Create an empty collection of at most ``kept`` artifacts."""
        self._kept = kept
        self._jobs: OrderedDict[tuple[str, bytes], str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, tenant: str, sha256: str, job_id: str) -> None:
        """Remember an artifact; the oldest one is forgotten when there are too many."""
        key = tenant, bytes.fromhex(sha256)
        self._jobs.pop(key, None)
        self._jobs[key] = job_id
        if len(self._jobs) > self._kept:
            self._jobs.popitem(last=False)

    def job_of(self, tenant: str, sha256: str) -> str | None:
        """Return the newest job with such an artifact."""
        try:
            return self._jobs.get((tenant, bytes.fromhex(sha256)))
        except ValueError:
            return None  # not a hash
