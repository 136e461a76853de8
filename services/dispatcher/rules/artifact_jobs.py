"""Jobs by the content of their artifacts: an upload that is byte for byte the result of a rule's job. Bounded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
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

    def saved(self) -> tuple[tuple[str, str, str], ...]:
        """Return tenant, SHA-256 and job of each artifact, the oldest first."""
        return tuple((tenant, sha256.hex(), job_id) for (tenant, sha256), job_id in self._jobs.items())

    def restore(self, saved: Iterable[tuple[str, str, str]]) -> None:
        """Go on from artifacts that were stored; none may have been added yet."""
        for artifact in saved:
            self.add(*artifact)

    def forget(self, is_forgotten: Callable[[str], bool]) -> None:
        """Forget the artifacts of some jobs."""
        for key in [key for key, job_id in self._jobs.items() if is_forgotten(job_id)]:
            del self._jobs[key]

    def job_of(self, tenant: str, sha256: str) -> str | None:
        """Return the newest job with such an artifact."""
        try:
            return self._jobs.get((tenant, bytes.fromhex(sha256)))
        except ValueError:
            return None  # not a hash
