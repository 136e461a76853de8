"""Rows of the view about upload rules, and what the jobs' rows say of a rule."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pydantic import TypeAdapter

from contracts.manifest import Artifact
from contracts.rule import Rule
from kit.projection_file import ProjectionFile
from services.gateway.aggregates.kept_rows import decode_row

_RULE: Final = TypeAdapter(Rule)


class RuleRows:
    """The rules of all tenants. Calls are short and made in the event loop."""

    def __init__(self, file: ProjectionFile) -> None:
        """Read and write the view's file."""
        self._file = file

    def get(self, rule_id: str) -> Rule | None:
        """Return a rule of any tenant; None also for a deleted one."""
        row = self._file.row("SELECT body FROM rules WHERE id = ?", (rule_id,))
        return decode_row(self._file, _RULE, row[0]) if row else None

    def keep(self, rule: Rule) -> None:
        """Insert or replace a rule; delete a deleted one."""
        if rule.deleted_at is not None:
            self._file.write("DELETE FROM rules WHERE id = ?", (rule.id,))
            return
        values = (rule.id, rule.tenant, rule.sequence, _RULE.dump_json(rule))
        change = "INSERT INTO rules VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body"
        self._file.write(change, values)

    def page(self, tenant: str, *, before: int | None = None, limit: int) -> tuple[list[Rule], int | None]:
        """Return a tenant's rules, newest first, and the value of ``before`` for the next page."""
        query = "SELECT body, first_sequence FROM rules WHERE tenant = ? AND first_sequence < ? ORDER BY 2 DESC LIMIT ?"
        rows = self._file.rows(query, (tenant, (1 << 62) if before is None else before, limit + 1))
        found = [decode_row(self._file, _RULE, row[0]) for row in rows[:limit]]
        return found, rows[limit - 1][1] if len(rows) > limit else None

    def count(self, tenant: str) -> int:
        """Return the number of a tenant's rules."""
        ((count,),) = self._file.rows("SELECT count(*) FROM rules WHERE tenant = ?", (tenant,))
        return int(count)

    def count_jobs(self, rule_id: str, since: datetime) -> int:
        """Return the number of jobs that a rule has submitted since a time."""
        query = "SELECT count(*) FROM jobs WHERE rule = ? AND rule != '' AND created_us >= ?"
        ((count,),) = self._file.rows(query, (rule_id, int(since.timestamp() * 1_000_000)))
        return int(count)

    def result_hashes(self, rule_id: str) -> set[str]:
        """Return the SHA-256 of the artifacts of a rule's jobs."""
        query = "SELECT artifacts.body FROM artifacts JOIN jobs ON id = job_id WHERE rule = ? AND rule != ''"
        return {Artifact.model_validate_json(row[0]).sha256 for row in self._file.rows(query, (rule_id,))}

    def last_job(self, rule_id: str) -> str | None:
        """Return the id of the newest job that a rule has submitted."""
        query = "SELECT id FROM jobs WHERE rule = ? AND rule != '' ORDER BY first_sequence DESC LIMIT 1"
        row = self._file.row(query, (rule_id,))
        return str(row[0]) if row else None
