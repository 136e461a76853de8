"""Text search in a tenant's jobs: one line-separated text a job, read newest first, so many of them a request.

A text is written once, with the job's first event; what a search may be about never changes afterwards. There is no
index of words: the texts of a tenant are next to each other in the file, in the order of the list. A request reads
50,000 of them at most, and says how far it came.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from contracts.job import Job
from kit.projection_file import ProjectionFile
from services.gateway.aggregates.projection_reader import Rows

SCHEMA: Final = """
CREATE TABLE job_texts (
    tenant TEXT NOT NULL, is_part INTEGER NOT NULL, first_sequence INTEGER NOT NULL, text TEXT NOT NULL,
    PRIMARY KEY (tenant, is_part, first_sequence)
) WITHOUT ROWID
"""
#: Characters of a job that can be found; of a job with very many files, the names of the first ones.
TEXT_CHARS: Final = 4_000
#: Texts that one request reads, and those among them that match and may be filtered out by the list's other filters.
LOOKED_AT: Final = 50_000
MATCHES: Final = 1_000
#: The first line of a text is the job's id.
_ID: Final = "substr(text, 1, instr(text, char(10)) - 1)"


def searchable(text: str) -> str:
    """Return a text as it is compared: without regard to case, and to how accents are encoded."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).replace("\0", " ")


def text_of(job: Job, filename_of: Callable[[str], str]) -> str:
    """Return what a search finds a job by, in lines: id, workload, metadata, file names, the job that it repeats.

    ``filename_of`` returns the name of an upload that the job names by its id only.
    """
    submitted = job.submitted
    parts = [submitted.workload, *(f"{name}={value}" for name, value in submitted.metadata.items())]
    parts += [file.filename for files in submitted.inputs.values() for file in files]
    if submitted.retry_of:
        parts.append(submitted.retry_of)
    size = sum(map(len, parts))
    for upload_id in (upload_id for ids in submitted.input_ids.values() for upload_id in ids):
        if size > TEXT_CHARS:
            break
        parts.append(filename_of(upload_id))
        size += len(parts[-1])
    return "\n".join((job.id, searchable("\n".join(parts))))[: TEXT_CHARS - 1] + "\n"


@dataclass(frozen=True)
class Found:
    """Jobs whose text contains what is searched for, and how far the request looked."""

    ids: list[str]
    #: Sequence down to which every text was read; None when all were.
    looked_to: int | None


def keep_text(file: ProjectionFile, job: Job, filename_of: Callable[[str], str]) -> None:
    """Store the text of a job in the view's file."""
    key = (job.tenant, int(job.submitted.part_of is not None), job.first_sequence)
    file.write_own("INSERT OR REPLACE INTO job_texts VALUES (?, ?, ?, ?)", [(*key, text_of(job, filename_of))])


class JobTexts:
    """Finds jobs by their texts."""

    def __init__(self, file: Rows) -> None:
        """Read the view's file."""
        self._file = file

    def containing(self, tenant: str, sequences: Sequence[int], *, is_part: bool, text: str) -> set[int]:
        """Return which of the jobs with these first sequences have a text that contains another one."""
        query = (
            "SELECT json_group_array(first_sequence) FROM job_texts WHERE tenant = ? AND is_part = ? "
            "AND first_sequence IN (SELECT value FROM json_each(?)) AND instr(text, ?)"
        )
        ((found,),) = self._file.rows(query, (tenant, int(is_part), json.dumps(sequences), text))
        return set(json.loads(found))

    def search(self, tenant: str, text: str, workload: str | None, before: int | None, limit: int = MATCHES) -> Found:
        """Return the newest of a tenant's jobs before a sequence whose text contains another one; not stages' jobs."""
        newest = before if before is not None else 1 << 62
        floor = self._file.row(
            "SELECT first_sequence FROM jobs INDEXED BY jobs_by_age WHERE tenant = ? AND pipeline = '' "
            "AND first_sequence < ? ORDER BY first_sequence DESC LIMIT 1 OFFSET ?",
            (tenant, newest, LOOKED_AT - 1),
        )
        lowest = floor[0] if floor else 0
        newest_first = (
            f"SELECT first_sequence, {_ID} AS id FROM job_texts WHERE tenant = ? AND is_part = 0 "  # noqa: S608 - a column
            "AND first_sequence < ? AND first_sequence >= ? AND instr(text, ?) AND instr(text, ?) "
            "ORDER BY first_sequence DESC LIMIT ?"
        )
        # As one row: in a thread each one waits for the interpreter.
        ((found,),) = self._file.rows(
            f"SELECT json_group_array(json_array(first_sequence, id)) FROM ({newest_first})",  # noqa: S608
            (tenant, newest, lowest, text, f"\n{workload}\n" if workload is not None else "\n", limit),
        )
        rows: list[list[Any]] = sorted(json.loads(found), reverse=True)
        if len(rows) == limit:
            return Found([job_id for _, job_id in rows], rows[-1][0])
        return Found([job_id for _, job_id in rows], lowest or None)
