"""Metadata from paths: templates, and patterns that name their parts."""

from __future__ import annotations

import pytest

from cli.failure import USAGE, Failure
from cli.uploads.path_metadata import PathMetadata


def test_templates_take_the_parts_of_a_path() -> None:
    metadata = PathMetadata({"lap": "{stem}", "where": "{parent}/{name}", "kind": "{suffix}", "team": "red"}, None)
    assert metadata.of("monza/lap 7.MP4") == {
        "lap": "lap 7", "where": "monza/lap 7.MP4", "kind": "MP4", "team": "red"
    }  # fmt: skip
    assert metadata.of("a.mp4") == {"lap": "a", "where": "/a.mp4", "kind": "mp4", "team": "red"}


def test_a_pattern_names_its_parts_and_leaves_what_does_not_fit() -> None:
    metadata = PathMetadata({"key": "{driver}-{lap}"}, "{driver}/lap_{lap}.{side}.mp4")
    assert metadata.of("anna/lap_7.a.mp4") == {"driver": "anna", "lap": "7", "side": "a", "key": "anna-7"}
    for path in ("lap_7.a.mp4", "x/anna/lap_7.a.mp4", "anna/lap_7.mp4", "anna/lap_7.a.mp40"):
        assert metadata.of(path) is None
    assert PathMetadata({}, "(1) {lap}.mp4").of("(1) 3.mp4") == {"lap": "3"}, "the rest is no regular expression"


@pytest.mark.parametrize(
    ("templates", "pattern"),
    [
        ({"lap": "{lap}"}, None),
        ({"lap": "{stem"}, None),
        ({"lap": "{stem!r}"}, None),
        ({"lap": "{stem.__class__}"}, None),
        ({"lap": "{}"}, None),
        ({}, "{lap}_{lap}.mp4"),
        ({}, "{stem}.mp4"),
        ({}, "{lap:3}.mp4"),
        ({}, "{0}.mp4"),
        ({}, "{lap"),
    ],
)
def test_what_cannot_be_filled_in_is_refused_at_the_start(templates: dict[str, str], pattern: str | None) -> None:
    with pytest.raises(Failure) as refused:
        PathMetadata(templates, pattern)
    assert refused.value.exit_code == USAGE
    assert "{stem}" in refused.value.hint
