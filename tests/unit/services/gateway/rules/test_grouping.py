"""Groups that past uploads would have formed: complete by number, or by silence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.events.rule import RuleGroup
from contracts.events.upload import UploadCreated
from contracts.ids import new_id
from contracts.rule_matching import OPEN_GROUP_S
from contracts.upload import Upload, UploadState
from services.gateway.rules.grouping import past_groups

DAY_S = 86_400
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def upload(at_s: float, name: str, **metadata: str) -> Upload:
    created = UploadCreated(key="k", filename=name, content_type="image/png", size_bytes=1, metadata=metadata)
    at = NOON + timedelta(seconds=at_s)
    return Upload(new_id("upl"), "acme", created, at, UploadState.COMPLETED, completed_at=at)


def shown(group: dict[str, Any], uploads: list[Upload], most: int = 500, now_s: float = 1000) -> list[Any]:
    found = past_groups(RuleGroup.model_validate(group), uploads, most, NOON + timedelta(seconds=now_s))
    return [
        (each.value, "".join(each_upload.created.filename for each_upload in each.uploads), each.end) for each in found
    ]


def test_uploads_with_the_same_value_belong_together() -> None:
    laps = [upload(1, "b", lap="7"), upload(2, "c", lap="8"), upload(3, "x"), upload(4, "a", lap="7")]
    more = [upload(5, "d", lap="7"), upload(6, "e", lap="8")]
    group = {"by": "metadata.lap", "needs": 2, "order": "filename"}
    assert shown(group, laps) == [("7", "ab", "complete"), ("8", "c", "waiting")]
    assert shown(group, laps + more) == [("7", "ab", "complete"), ("8", "ce", "complete"), ("7", "d", "waiting")]


@pytest.mark.parametrize(("now_s", "last"), [(74.9, "waiting"), (75, "quiet")])
def test_a_group_ends_when_it_was_quiet(now_s: float, last: str) -> None:
    photos = [upload(at_s, name) for at_s, name in ((0, "a"), (5, "b"), (14.9, "c"), (24.9, "d"), (65, "e"))]
    found = shown({"quiet_s": 10}, photos, now_s=now_s)
    assert found == [("", "abc", "quiet"), ("", "d", "quiet"), ("", "e", last)]


def test_a_group_that_is_full_is_complete() -> None:
    photos = [upload(at_s, name) for at_s, name in enumerate("abcde")]
    assert shown({"quiet_s": 10}, photos, most=2) == [
        ("", "ab", "complete"),
        ("", "cd", "complete"),
        ("", "e", "quiet"),
    ]


def test_a_group_that_never_completes_ends_after_a_week() -> None:
    far_apart = [upload(0, "a"), upload(8 * DAY_S, "b")]
    assert shown({"needs": 2}, far_apart, now_s=8 * DAY_S + 1) == [("", "a", "quiet"), ("", "b", "waiting")]
    assert shown({"needs": 2}, far_apart, now_s=15 * DAY_S) == [("", "a", "quiet"), ("", "b", "quiet")]
    near = [upload(0, "a"), upload(OPEN_GROUP_S - 1, "b")]
    assert shown({"needs": 2}, near, now_s=9 * DAY_S) == [("", "ab", "complete")]


def test_a_group_that_is_never_quiet_ends_after_a_week() -> None:
    names = "abcdefghijklmno"  # one each half a day
    often = [upload(day_half * DAY_S / 2, name) for day_half, name in enumerate(names)]
    assert shown({"quiet_s": DAY_S}, often, now_s=7 * DAY_S) == [
        ("", names[:14], "quiet"),
        ("", names[14:], "waiting"),
    ]
