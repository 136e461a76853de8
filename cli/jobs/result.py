"""Result of a job as the command line shows it: headline, inputs, report and files."""

from __future__ import annotations

from typing import Any, Final

from saccade_client import JobView

#: File names of an input that are shown; the others are counted.
_NAMES_SHOWN: Final = 3


def result_lines(job: JobView, server: str) -> dict[str, str]:
    """Return what a succeeded job has made of which inputs, and where it is, by label; empty for other jobs."""
    if job.state != "succeeded":
        return {}
    lines = {"result": job.headline or "", "inputs": inputs_text(job)}
    if job.report:
        lines["report"] = f"{server}{job.report}"
        lines["open"] = f"saccade open {job.id}"
    return lines | {"files": f"saccade artifacts {job.id} --download DIR"}


def inputs_text(job: JobView) -> str:
    """Return the names of a job's files, by input: ``reference A.mp4 · other B.mp4``."""
    return " · ".join(f"{name} {_files_text(files)}" for name, files in job.inputs.items() if files)


def outcome_text(job: JobView) -> str:
    """Return the headline of a succeeded job, or the code of the error of a failed one: a cell of a table."""
    if job.state == "failed" and job.error is not None:
        return job.error.code
    return job.headline or ""


def _files_text(files: list[dict[str, Any]]) -> str:
    names = [str(file.get("filename", file.get("upload_id", ""))) for file in files]
    if len(names) <= _NAMES_SHOWN:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMES_SHOWN])} and {len(names) - _NAMES_SHOWN} more"
