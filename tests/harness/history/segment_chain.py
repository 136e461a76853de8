"""Chain of an archive's segments: each carries the hash of the one before it."""

from __future__ import annotations

from collections.abc import Iterable

from kit.history.manifest import SegmentManifest


def verify_chain(manifests: Iterable[SegmentManifest]) -> list[str]:
    """Return what is wrong with consecutive segments, by sequence: a range that is missing, a hash that differs."""
    faults: list[str] = []
    before: SegmentManifest | None = None
    for manifest in manifests:
        if before is not None:
            expected = before.last + 1
            start = manifest.expired[0] if manifest.expired else manifest.first
            if start > expected:
                faults.append(f"events {expected} to {start - 1} are missing: their segment was removed")
            elif start < expected:
                faults.append(f"the segment of {manifest.first} to {manifest.last} repeats events before it")
            elif manifest.previous != before.sha256:
                faults.append(
                    f"the segment of {manifest.first} to {manifest.last} does not carry the hash of the one before it "
                    f"({before.first} to {before.last}): one of the two was changed"
                )
        before = manifest
    return faults
