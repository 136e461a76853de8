"""Fold of the events of rules and groups, and of those events of jobs and uploads that concern them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from contracts.erasure import sha256_of
from contracts.events import job, rule
from contracts.events.base import Envelope, decode_at
from contracts.events.erasure import ErasureCompleted
from contracts.events.upload import UploadCompleted, UploadFailed
from contracts.ids import pipeline_id_of
from kit.bus.event_store import StoredEvent
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs
from services.dispatcher.rules.artifact_jobs import ArtifactJobs
from services.dispatcher.rules.group_book import GroupBook
from services.dispatcher.rules.group_closing import GroupClosing
from services.dispatcher.rules.reaction_progress import ReactionProgress
from services.dispatcher.rules.rule_book import RuleBook


@dataclass(frozen=True)
class RuleFold:
    """Everything that the dispatcher knows of rules; nothing in it grows with history."""

    jobs: UnfinishedJobs
    rules: RuleBook
    groups: GroupBook
    artifacts: ArtifactJobs
    progress: ReactionProgress
    closing: GroupClosing

    def on_stored(self, stored: StoredEvent, job_event: Envelope | None) -> None:
        """Fold a durable event; ``job_event`` is the decoded event of a job, which was folded before."""
        if job_event is not None:
            if handler := ON_RULE.get(job_event.type):
                handler(self, job_event, stored.sequence)
            return
        noun, _, verb = stored.subject.split(".", 3)[-1].partition(".")
        verb = verb.rpartition(".")[2]
        if f"{noun}.{verb}" == UploadCompleted.type:
            self.progress.newest = stored.sequence  # not decoded: there are many, and the reaction reads them
        elif handler := ON_RULE.get(f"{noun}.{verb}"):
            handler(self, decode_at(stored.subject, stored.body), stored.sequence)


Handler = Callable[[RuleFold, Envelope, int], None]


def changed(fold: RuleFold, envelope: Envelope, sequence: int) -> None:
    """Fold the definition of a rule; its groups may have to be closed now."""
    fold.rules.fold(envelope, sequence)
    fold.closing.look_at(fold.groups.of_rule(envelope.subject))


def deleted(fold: RuleFold, envelope: Envelope, sequence: int) -> None:
    """Forget a rule and its groups, of which no job is made."""
    fold.rules.fold(envelope, sequence)
    fold.groups.drop_rule(envelope.subject)


def skipped(fold: RuleFold, envelope: Envelope, sequence: int) -> None:
    """Fold that a rule made no job of an upload, or of a group, which is settled by that."""
    fold.rules.fold(envelope, sequence)
    if isinstance(group_id := envelope.data.get("group_id"), str):
        fold.groups.drop(group_id)


def upload_added(fold: RuleFold, envelope: Envelope, sequence: int) -> None:
    """Fold an upload of a group, which may be complete now."""
    if fold.rules.get(envelope.tenant, str(envelope.data.get("rule_id"))) and fold.groups.fold(envelope, sequence):
        fold.closing.look_at([envelope.subject])


def closed(fold: RuleFold, envelope: Envelope, sequence: int) -> None:
    """Fold that a group is closed; its job follows."""
    if fold.groups.fold(envelope, sequence):
        fold.closing.look_at_soon(envelope.subject)


def upload_failed(fold: RuleFold, envelope: Envelope, _: int) -> None:
    """Leave an upload that was deleted out of the groups that wait."""
    fold.closing.look_at(fold.groups.leave_out(envelope.subject))


def job_submitted(fold: RuleFold, envelope: Envelope, _: int) -> None:
    """Forget a group that has its job."""
    origin = envelope.data.get("rule")
    if isinstance(origin, dict) and isinstance(group_id := origin.get("group_id"), str):
        fold.groups.drop(group_id)


def artifact_ready(fold: RuleFold, envelope: Envelope, _: int) -> None:
    """Remember an artifact of a rule's job, so that the rule does not apply to it when somebody uploads it."""
    found = fold.jobs.stage_job(pipeline_id_of(envelope.subject) or envelope.subject)
    if found is None or found.submitted.rule is None:
        return
    data = job.JobArtifactReady.model_validate(envelope.data)
    # Of a job with very many files only their ids are known here: a copy of one of them counts as a result.
    inputs = {given.sha256 for listed in found.submitted.inputs.values() for given in listed}
    if data.artifact.sha256 not in inputs:  # a copy of an input is no result
        fold.artifacts.add(envelope.tenant, data.artifact.sha256, found.id)


def erased(fold: RuleFold, envelope: Envelope, _: int) -> None:
    """Forget a job or an upload that was erased. After the erasure of a tenant the process starts again."""
    data = ErasureCompleted.model_validate(envelope.data)
    jobs, upload = set(data.jobs_sha256), data.upload_sha256
    if jobs:
        fold.artifacts.forget(lambda job_id: sha256_of(job_id) in jobs)
    if upload:
        fold.groups.forget_upload(lambda upload_id: sha256_of(upload_id) == upload)


#: Events that change what the dispatcher knows of rules.
ON_RULE: Final[Mapping[str, Handler]] = {
    rule.RuleCreated.type: changed,
    rule.RuleUpdated.type: changed,
    rule.RuleDeleted.type: deleted,
    rule.RuleSkipped.type: skipped,
    rule.GroupUploadAdded.type: upload_added,
    rule.GroupClosed.type: closed,
    UploadFailed.type: upload_failed,
    ErasureCompleted.type: erased,
    job.JobSubmitted.type: job_submitted,
    job.JobArtifactReady.type: artifact_ready,
}
