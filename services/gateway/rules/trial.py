"""Dry run of a rule: what it would have done with the uploads of the past. Nothing is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from contracts.cost_estimate import CostEstimate
from contracts.errors import ErrorBody, ErrorCode, SaccadeError
from contracts.events.rule import RuleDefinition
from contracts.job_request import check_input
from contracts.rule_matching import assign, capacity, filled_inputs, matches
from contracts.upload import Upload
from contracts.workload import Input
from modal_workers import catalog
from services.gateway.aggregates.view import GatewayView
from services.gateway.rules.grouping import PastGroup, past_groups

#: Jobs that are followed from a file to the job that made it, and from that job's files on.
_LONGEST_CHAIN: Final = 1000


@dataclass(frozen=True)
class PastJob:
    """One upload or group, and what the rule would do with it: ``waiting``, an error, or else a job."""

    inputs: dict[str, list[Upload]]
    group: str | None
    waiting: bool = False
    error: ErrorBody | None = None


@dataclass(frozen=True)
class Trial:
    """A rule's definition with its defaults, and what it would have done."""

    definition: RuleDefinition
    considered: int
    matched: int
    jobs: list[PastJob]
    estimate: CostEstimate


class RuleTrials:
    """Dry runs of rules. Tenant-scoped."""

    def __init__(self, view: GatewayView) -> None:
        """Read uploads and jobs from ``view``."""
        self._view = view

    def run(
        self,
        tenant: str,
        definition: RuleDefinition,
        estimate: CostEstimate,
        *,
        rule_id: str | None,
        since: datetime | None,
        limit: int,
    ) -> Trial:
        """Return what a valid rule would have done with the newest ``limit`` uploads since a time.

        ``rule_id`` is that of an existing rule: what it has made itself is skipped.
        """
        uploads = self._view.completed_uploads(tenant, since, limit)
        uploads.sort(key=lambda upload: upload.completed_at or upload.created_at)
        found = [each for each in uploads if each.completed and matches(definition.match, each.created, each.completed)]
        inputs = filled_inputs(definition.inputs, catalog.workload(definition.workload))
        jobs = list(self._jobs(definition, found, inputs, rule_id))
        return Trial(definition, len(uploads), len(found), jobs, estimate)

    def _jobs(
        self, definition: RuleDefinition, uploads: list[Upload], inputs: list[Input], rule_id: str | None
    ) -> Iterator[PastJob]:
        results = self._view.rules.result_hashes(rule_id) if rule_id else set()
        own = [
            upload for upload in uploads if rule_id and (_sha256(upload) in results or self._made_by(rule_id, upload))
        ]
        for upload in own:
            loop = SaccadeError(ErrorCode.RULE_LOOP, f"{upload.created.filename} is a result of this rule's own jobs.")
            yield PastJob(assign([upload], inputs), None, error=loop.body())
        others = [upload for upload in uploads if upload not in own]
        group = definition.group
        if group is None:
            ended = [
                PastGroup("", (upload,), "complete", upload.completed_at or upload.created_at) for upload in others
            ]
        else:
            ended = past_groups(group, others, capacity(inputs), datetime.now(UTC))
        submitted: Counter[str] = Counter()
        for each in ended:
            assigned = assign(each.uploads, inputs)
            value = None if group is None else each.value
            if each.end == "waiting":
                yield PastJob(assigned, value, waiting=True)
                continue
            day = each.ends_at.date().isoformat()
            error = _refusal(definition, each, assigned, inputs, submitted[day])
            submitted[day] += error is None
            yield PastJob(assigned, value, error=error)

    def _made_by(self, rule_id: str, upload: Upload) -> bool:
        """Return whether a rule had a part in the job that a file is the result of, or in that job's own files."""
        pending, seen = [upload.created.from_job], set[str]()
        while pending and len(seen) < _LONGEST_CHAIN:
            job_id = pending.pop()
            if job_id is None or job_id in seen:
                continue
            seen.add(job_id)
            if (job := self._view.job(job_id)) is None:
                continue
            if job.submitted.rule is not None and job.submitted.rule.rule_id == rule_id:
                return True
            if job.submitted.part_of is not None:
                pending.append(job.submitted.part_of.job_id)
            found = map(self._view.upload, job.submitted.used_uploads)
            pending += [each.created.from_job for each in found if each is not None]
        return False


def _sha256(upload: Upload) -> str | None:
    return upload.completed.sha256 if upload.completed else None


def _refusal(
    definition: RuleDefinition, group: PastGroup, assigned: dict[str, list[Upload]], inputs: list[Input], today: int
) -> ErrorBody | None:
    """Return why no job would have been submitted, given the number of those before it on that day."""
    minimum = (definition.group.needs or definition.group.minimum) if definition.group else 1
    if len(group.uploads) < minimum:
        message = f"{len(group.uploads)} upload(s) came before the group ended; at least {minimum} are needed."
        return SaccadeError(ErrorCode.MISSING_INPUT, message).body()
    try:
        for declared in inputs:
            for upload in assigned.get(declared.name, []):
                check_input(declared, upload)
    except SaccadeError as error:
        return error.body()
    if today >= definition.jobs_per_day:
        message = f"The rule submits at most {definition.jobs_per_day} jobs a day."
        return SaccadeError(ErrorCode.RULE_LIMIT_REACHED, message).body()
    return None
