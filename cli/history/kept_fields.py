"""Text fields of events that a redacted file keeps, and what their values must look like.

This is an allow-list: text of a field that is not in it is replaced by a keyed hash, and so is text of a listed field
that is not of its form. Numbers, truth values, times and the values of enumerations need no entry. Pure.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from pydantic import BaseModel

from contracts.errors import ErrorBody
from contracts.events import delivery, job, rule, session, upload
from contracts.events.base import Envelope
from contracts.manifest import Artifact


class Form(Enum):
    """Forms of text that may be kept as it is."""

    #: An id that Saccade made, or one that follows from such ids: ``run_….starting``.
    ID = auto()
    #: A word that every installation knows: a workload, a stage, a device, a media type, an error's hint.
    KNOWN = auto()
    #: The tenant of systems without API keys.
    TENANT = auto()
    #: Numbers with dots: ``1.0.0``.
    VERSION = auto()
    #: Not kept; the hash is one of a SHA-256's form.
    DIGEST = auto()
    #: Name of a field of rules: ``metadata.<name>``, whose name is hashed.
    RULE_FIELD = auto()


#: Fields by the model that has them.
KEPT: Final[dict[type[BaseModel], dict[str, Form]]] = {
    Envelope: {"id": Form.ID, "source": Form.KNOWN, "subject": Form.ID, "tenant": Form.TENANT},
    Artifact: {"sha256": Form.DIGEST, "media_type": Form.KNOWN},
    ErrorBody: {"message": Form.KNOWN, "hint": Form.KNOWN},
    job.JobInput: {"upload_id": Form.ID, "content_type": Form.KNOWN, "sha256": Form.DIGEST},
    job.Cost: {"device": Form.KNOWN},
    job.PartOf: {"job_id": Form.ID, "stage": Form.KNOWN},
    job.JobSubmitted: {
        "workload": Form.KNOWN,
        "workload_version": Form.VERSION,
        "gpu": Form.KNOWN,
        "retry_of": Form.ID,
    },
    job.JobStarting: {"run_id": Form.ID, "executor": Form.KNOWN, "device": Form.KNOWN},
    job.JobWaitingForGpu: {"run_id": Form.ID, "device": Form.KNOWN, "next_device": Form.KNOWN},
    job.JobLaunched: {"run_id": Form.ID},
    job.JobStarted: {"run_id": Form.ID, "device": Form.KNOWN},
    job.JobProgressed: {"run_id": Form.ID, "stage": Form.KNOWN},
    job.JobArtifactReady: {"run_id": Form.ID},
    job.JobStageCompleted: {"run_id": Form.ID, "stage": Form.KNOWN},
    job.JobInterrupted: {"run_id": Form.ID},
    job.JobSucceeded: {"run_id": Form.ID},
    rule.RuleDefinition: {"workload": Form.KNOWN, "inputs": Form.KNOWN, "gpu": Form.KNOWN},
    rule.RuleGroup: {"by": Form.RULE_FIELD, "order": Form.RULE_FIELD},
    rule.JobRule: {"rule_id": Form.ID, "upload_ids": Form.ID, "group_id": Form.ID},
    rule.RuleSkipped: {"upload_ids": Form.ID, "group_id": Form.ID},
    rule.GroupUploadAdded: {"rule_id": Form.ID, "upload_id": Form.ID},
    rule.GroupClosed: {"rule_id": Form.ID, "upload_ids": Form.ID, "job_id": Form.ID},
    session.SessionOpened: {"workload": Form.KNOWN, "workload_version": Form.VERSION, "replay_of": Form.ID},
    session.SessionReady: {"run_id": Form.ID, "device": Form.KNOWN},
    session.SessionStarted: {"run_id": Form.ID},
    session.SessionFrameAcked: {"run_id": Form.ID},
    session.SessionProgressed: {"run_id": Form.ID},
    session.SessionChunkExported: {"run_id": Form.ID},
    session.SessionText: {"run_id": Form.ID, "prompt_id": Form.ID},
    session.SessionTextDelta: {"run_id": Form.ID, "prompt_id": Form.ID},
    session.SessionAlert: {"run_id": Form.ID},
    session.SessionPromptRequested: {"prompt_id": Form.ID},
    upload.MediaFacts: {"container": Form.KNOWN, "codec": Form.KNOWN},
    upload.UploadSource: {"job_id": Form.ID},
    upload.UploadCreated: {"content_type": Form.KNOWN, "sha256": Form.DIGEST, "from_job": Form.ID},
    upload.UploadCompleted: {"sha256": Form.DIGEST, "content_type": Form.KNOWN},
    delivery.WebhookDisabled: {"endpoint_id": Form.ID},
    delivery.WebhookDelivered: {"endpoint_id": Form.ID, "event_id": Form.ID, "event_subject": Form.ID},
    delivery.WebhookFailed: {"endpoint_id": Form.ID, "event_id": Form.ID, "event_subject": Form.ID},
    delivery.WebhookRedeliveryRequested: {"endpoint_id": Form.ID},
}

#: Words of every installation; those of the workloads are added by the command, which knows the catalog.
WORDS: Final = frozenset(
    {
        *("/gateway", "/dispatcher", "/notifier", "local", "modal", "pipeline", "cpu"),
        *("video/mp4", "video/quicktime", "video/webm", "video/x-matroska", "application/zip"),
        *("image/jpeg", "image/png", "image/webp", "image/heic", "image/heif"),
        *("text/html", "text/plain", "text/csv", "application/json", "application/octet-stream"),
        *("h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg", "png", "webp", "mp4", "mov", "matroska", "zip"),
    }
)
