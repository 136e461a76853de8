"""Download of a job's artifacts, with progress."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from saccade_client import Client

from cli.progress_bar import format_size, progress_bar


def download_artifacts(
    client: Client, job_id: str, folder: Path, *, names: Sequence[str] | None = None, silent: bool
) -> list[Path]:
    """Download artifacts into ``folder``, all of them or those with ``names``; return their paths."""
    with progress_bar("Downloading", silent=silent) as update:
        return client.download(
            job_id,
            folder,
            lambda done, total: update(done / total if total else 1.0, format_size(total)),
            names=names,
        )
