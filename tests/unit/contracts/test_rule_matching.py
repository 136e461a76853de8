"""Which uploads a rule applies to, how they are grouped and ordered, and which inputs they fill."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.events.rule import RuleGroup, RuleMatch
from contracts.events.upload import MediaFacts, UploadCompleted, UploadCreated
from contracts.rule_matching import assign, capacity, filled_inputs, group_value, matches, order_key
from contracts.workload import Input
from modal_workers import catalog

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def created(filename: str = "Lap_A.MP4", **metadata: str) -> UploadCreated:
    return UploadCreated(key="k", filename=filename, content_type="video/mp4", size_bytes=0, metadata=metadata)


def completed(media: Any = "video", size_bytes: int = 1000) -> UploadCompleted:
    facts = MediaFacts(media=media, container="mov", codec="h264", width_px=64, height_px=48)
    return UploadCompleted(size_bytes=size_bytes, sha256="0" * 64, media=facts)


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({}, True),
        ({"media": "video"}, True),
        ({"media": "image"}, False),
        ({"filename": "lap_*.mp4"}, True),
        ({"filename": "LAP_?.Mp4"}, True),
        ({"filename": "*.mp"}, False),
        ({"filename": "lap_[!b].mp4"}, True),
        ({"metadata": {"track": "monza"}}, True),
        ({"metadata": {"track": "*"}}, True),
        ({"metadata": {"track": "spa*"}}, False),
        ({"metadata": {"driver": "*"}}, False),
        ({"metadata": {"track": "*", "day": "1"}}, True),
        ({"minimum_bytes": 1000, "maximum_bytes": 1000}, True),
        ({"minimum_bytes": 1001}, False),
        ({"maximum_bytes": 999}, False),
        ({"media": "video", "filename": "*.mov"}, False),
    ],
)
def test_every_part_of_the_condition_must_hold(match: dict[str, Any], expected: bool) -> None:
    upload = created(track="Monza", day="1")
    assert matches(RuleMatch.model_validate(match), upload, completed()) is expected


def test_an_upload_without_the_metadata_belongs_to_no_group() -> None:
    by_lap = RuleGroup(by="metadata.lap", needs=2)
    assert group_value(by_lap, created(lap="7")) == "7"
    assert group_value(by_lap, created(lap="")) == ""
    assert group_value(by_lap, created(driver="x")) is None
    assert group_value(RuleGroup(quiet_s=5), created()) == ""


@pytest.mark.parametrize(
    ("order", "names", "expected"),
    [
        ("filename", ["lap_10.mp4", "lap_9.mp4", "LAP_1.mp4"], ["LAP_1.mp4", "lap_9.mp4", "lap_10.mp4"]),
        ("metadata.place", ["b 2", "b 10", "a", "", "7"], ["", "7", "a", "b 2", "b 10"]),
        ("completed_at", ["z", "a", "m"], ["z", "a", "m"]),
    ],
)
def test_numbers_compare_as_numbers_and_the_first_completed_is_first(
    order: Any, names: list[str], expected: list[str]
) -> None:
    group = RuleGroup(needs=2, order=order)
    uploads = [(created(name, place=name), NOON + timedelta(seconds=index)) for index, name in enumerate(names)]
    ordered = sorted(uploads, key=lambda upload: order_key(group, *upload))
    assert [upload.filename for upload, _ in ordered] == expected
    same = [(created("same", place="same"), NOON + timedelta(seconds=second)) for second in (3, 1, 2)]
    times = [at.second for _, at in sorted(same, key=lambda upload: order_key(group, *upload))]
    assert times == [1, 2, 3]


def test_uploads_fill_the_required_inputs_in_their_order() -> None:
    laps = filled_inputs((), catalog.workload("lap_compare"))
    assert assign(["a", "b"], laps) == {"reference": ["a"], "other": ["b"]}
    turned = filled_inputs(("other", "reference"), catalog.workload("lap_compare"))
    assert assign(["a", "b"], turned) == {"other": ["a"], "reference": ["b"]}
    photos = filled_inputs((), catalog.workload("nerf"))
    assert assign(["1", "2", "3"], photos) == {"photos": ["1", "2", "3"]}
    assert (capacity(laps), capacity(photos)) == (2, 500)
    with pytest.raises(KeyError):
        filled_inputs(("third",), catalog.workload("lap_compare"))


def test_the_last_input_takes_the_rest() -> None:
    inputs = [Input("first", "image", "One"), Input("more", "image", "Several", maximum=3)]
    assert assign(["a", "b", "c", "d"], inputs) == {"first": ["a"], "more": ["b", "c", "d"]}
    assert assign(["a"], inputs) == {"first": ["a"]}
    assert capacity(inputs) == 4
