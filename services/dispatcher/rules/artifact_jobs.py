"""Jobs by the content of their artifacts: an upload that is byte for byte the result of a rule's job. Bounded."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from itertools import count
from typing import Final

#: Artifacts that are remembered; each takes 350 bytes. The oldest of the tenant that has most is forgotten first.
ARTIFACTS_KEPT: Final = 10_000


class ArtifactJobs:
    """The newest artifacts of jobs that rules submitted, by tenant and SHA-256."""

    def __init__(self, kept: int = ARTIFACTS_KEPT) -> None:
        """Create an empty collection of at most ``kept`` artifacts."""
        self._kept = kept
        #: Number of the addition and job of each artifact, by tenant and SHA-256; the oldest first.
        self._jobs: defaultdict[str, OrderedDict[bytes, tuple[int, str]]] = defaultdict(OrderedDict)
        self._numbers = count()
        #: Tenants by the number of their artifacts, and the largest of these numbers.
        self._by_size: defaultdict[int, dict[str, None]] = defaultdict(dict)
        self._most = 0
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, tenant: str, sha256: str, job_id: str) -> None:
        """Remember an artifact; when there are too many, the oldest one of the tenant that has most is forgotten."""
        key = bytes.fromhex(sha256)
        self._set(tenant, key, None)
        self._set(tenant, key, (next(self._numbers), job_id))
        if self._length > self._kept:
            most = next(iter(self._by_size[self._most]))
            self._set(most, next(iter(self._jobs[most])), None)

    def _set(self, tenant: str, key: bytes, added: tuple[int, str] | None) -> None:
        """Remember or forget one artifact, and count it."""
        jobs = self._jobs[tenant]
        before = len(jobs)
        if added:
            jobs[key] = added
        else:
            jobs.pop(key, None)
        after = len(jobs)
        self._length += after - before
        self._by_size[before].pop(tenant, None)
        self._by_size[after][tenant] = None
        for size in (before, 0):
            if size == 0 or not self._by_size[size]:
                self._by_size.pop(size, None)
        if not after:
            del self._jobs[tenant]
        self._most = max(self._most, after)
        while self._most and self._most not in self._by_size:
            self._most -= 1

    def saved(self) -> tuple[tuple[str, str, str], ...]:
        """Return tenant, SHA-256 and job of each artifact, the oldest first."""
        found = [(tenant, key, *added) for tenant, jobs in self._jobs.items() for key, added in jobs.items()]
        found.sort(key=lambda artifact: artifact[2])
        return tuple((tenant, key.hex(), job_id) for tenant, key, _, job_id in found)

    def restore(self, saved: Iterable[tuple[str, str, str]]) -> None:
        """Go on from artifacts that were stored; none may have been added yet."""
        for artifact in saved:
            self.add(*artifact)

    def forget(self, is_forgotten: Callable[[str], bool]) -> None:
        """Forget the artifacts of some jobs."""
        found = [(tenant, key, added[1]) for tenant, jobs in self._jobs.items() for key, added in jobs.items()]
        for tenant, key, job_id in found:
            if is_forgotten(job_id):
                self._set(tenant, key, None)

    def job_of(self, tenant: str, sha256: str) -> str | None:
        """Return the newest job with such an artifact."""
        try:
            key = bytes.fromhex(sha256)
        except ValueError:
            return None  # not a hash
        found = self._jobs[tenant].get(key) if tenant in self._jobs else None
        return found[1] if found else None
