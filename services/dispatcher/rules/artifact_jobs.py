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
        #: Tenants by the number of their artifacts: there are few different numbers.
        self._by_size: defaultdict[int, dict[str, None]] = defaultdict(dict)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, tenant: str, sha256: str, job_id: str) -> None:
        """Remember an artifact; when there are too many, the oldest one of the tenant that has most is forgotten."""
        key, jobs = bytes.fromhex(sha256), self._jobs[tenant]
        before = len(jobs)
        jobs[key] = next(self._numbers), job_id
        jobs.move_to_end(key)
        self._count(tenant, before)
        if self._length > self._kept:
            most = next(iter(self._by_size[max(self._by_size)]))
            self._remove(most, next(iter(self._jobs[most])))

    def _remove(self, tenant: str, key: bytes) -> None:
        before = len(self._jobs[tenant])
        del self._jobs[tenant][key]
        self._count(tenant, before)

    def _count(self, tenant: str, before: int) -> None:
        """Count a tenant's artifacts, of which there were so many before."""
        after = len(self._jobs[tenant])
        self._length += after - before
        if before:
            del self._by_size[before][tenant]
            if not self._by_size[before]:
                del self._by_size[before]
        if after:
            self._by_size[after][tenant] = None
        else:
            del self._jobs[tenant]

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
                self._remove(tenant, key)

    def job_of(self, tenant: str, sha256: str) -> str | None:
        """Return the newest job with such an artifact."""
        try:
            key = bytes.fromhex(sha256)
        except ValueError:
            return None  # not a hash
        found = self._jobs[tenant].get(key) if tenant in self._jobs else None
        return found[1] if found else None
