"""Events of rules, groups and uploads as the services publish them, and objects folded from them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from contracts.events import EventData, decode, encode
from contracts.events.base import Envelope
from contracts.events.rule import GroupClosed, GroupUploadAdded, RuleCreated, RuleDefinition
from contracts.events.upload import MediaFacts, UploadCompleted, UploadCreated
from contracts.ids import new_id
from contracts.rule import Rule, fold
from contracts.upload import Upload
from contracts.upload import fold as fold_upload
from contracts.workload import Backend, Input, Params, Result, Stage, Workload

EPOCH = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
TENANT = "acme"


class PhotoParams(Params):
    quality: int = 3
    engine: str = "plain"


class NoResult(Result):
    pass


def workload(name: str = "photos", *inputs: Input, **fields: Any) -> Workload:
    """A workload that takes photos."""
    return Workload(
        name=name,
        title=name,
        description="",
        version="1",
        params=PhotoParams,
        result=NoResult,
        inputs=inputs or (Input("photos", "image", "Photos", minimum=1, maximum=8),),
        stages=(Stage("work", "Work", 1.0),),
        job="tests:nothing",
        backends=(Backend("engine", "fast", "no_such_package", "Install it."),),
        **fields,
    )


#: The lap pair: two inputs of one video each.
LAPS = workload("laps", Input("reference", "video", "Reference"), Input("lap", "video", "Lap"))


def envelope(data: EventData, subject_id: str, at: datetime = EPOCH, tenant: str = TENANT) -> Envelope:
    return decode(encode(data, tenant=tenant, subject_id=subject_id, source="/test", time=at).body)


def definition(workload_name: str = "photos", **fields: Any) -> RuleDefinition:
    return RuleDefinition(**{"name": "A rule", "workload": workload_name, **fields})


def rule(workload_name: str = "photos", *, sequence: int = 1, **fields: Any) -> Rule:
    data = RuleCreated(rule=definition(workload_name, **fields))
    made = fold(None, envelope(data, new_id("rul")), sequence)
    assert made
    return made


def created(filename: str = "a.jpg", **fields: Any) -> UploadCreated:
    return UploadCreated(
        **{"key": "k", "filename": filename, "content_type": "image/jpeg", "size_bytes": 10, **fields}
    )  # fmt: skip


def completed(media: str = "image", sha256: str = "0" * 64, size_bytes: int = 10) -> UploadCompleted:
    facts = MediaFacts.model_validate({"media": media, "container": "c", "codec": "c", "width_px": 2, "height_px": 2})
    return UploadCompleted(size_bytes=size_bytes, sha256=sha256, media=facts)


def upload(filename: str = "a.jpg", media: str = "image", at_s: float = 0.0, **fields: Any) -> Upload:
    upload_id, at = new_id("upl"), EPOCH + timedelta(seconds=at_s)
    made = fold_upload(None, envelope(created(filename, **fields), upload_id, at), 10)
    made = fold_upload(made, envelope(completed(media), upload_id, at), 11)
    assert made
    return made


def added(rule_id: str, upload_id: str, value: str = "", number: int = 1, count: int = 1) -> GroupUploadAdded:
    return GroupUploadAdded(rule_id=rule_id, value=value, number=number, upload_id=upload_id, count=count)


def closed(rule_id: str, *upload_ids: str) -> GroupClosed:
    return GroupClosed(rule_id=rule_id, reason="quiet", upload_ids=upload_ids, job_id=new_id("job"))
