"""Options of ``saccade rules`` become the fields of the API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from cli.failure import Failure
from cli.rules.rule_options import rule_fields, rule_options
from cli.rules.rules import group_text, match_text

KNOWN = {
    "match": {"media": "video", "metadata": {"a": "b"}},
    "group": {"by": "metadata.lap", "needs": 2, "quiet_s": None, "minimum": 1, "order": "completed_at"},
    "params": {"sectors": 3, "flow": "x"},
}


def fields(*words: str, known: dict[str, Any] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {}

    @click.command()
    @rule_options
    def command(**options: Any) -> None:
        found.update(rule_fields(options, known))

    result = CliRunner().invoke(command, list(words))
    if result.exception is not None:
        raise result.exception
    return found


def test_options_of_a_new_rule() -> None:
    laps = fields("--group-by", "lap", "--needs", "2", "--order", "filename", "--media", "video", "--match", "track=m*")
    assert laps == {
        "match": {"media": "video", "metadata": {"track": "m*"}},
        "group": {"by": "metadata.lap", "needs": 2, "order": "filename"},
    }
    assert fields("--quiet", "60", "--minimum", "20", "--order", "place", "-p", "steps=7", "--input", "photos") == {
        "group": {"quiet_s": 60.0, "minimum": 20, "order": "metadata.place"},
        "params": {"steps": 7},
        "inputs": ["photos"],
    }
    assert fields() == {}


def test_what_is_not_given_of_a_known_rule_stays() -> None:
    assert fields("--filename", "*.mp4", known=KNOWN)["match"] == KNOWN["match"] | {"filename": "*.mp4"}
    quiet = fields("--quiet", "5", known=KNOWN)["group"]
    assert quiet == KNOWN["group"] | {"needs": None, "quiet_s": 5.0}
    assert fields("--no-group", known=KNOWN) == {"group": None}
    assert fields("-p", "sectors=4", known=KNOWN) == {"params": {"sectors": 4, "flow": "x"}}
    with pytest.raises(Failure):
        fields("--no-group", "--needs", "2", known=KNOWN)


def test_a_file_is_read_and_options_take_precedence(tmp_path: Path) -> None:
    file = tmp_path / "rule.json"
    file.write_text(json.dumps({"workload": "lap_compare", "name": "Laps", "group": {"needs": 2}}))
    assert fields("--file", str(file), "--name", "Other", "--group-by", "lap") == {
        "workload": "lap_compare", "name": "Other", "group": {"needs": 2, "by": "metadata.lap"}
    }  # fmt: skip
    file.write_text("[]")
    with pytest.raises(Failure):
        fields("--file", str(file))


def test_a_rule_is_described_in_words() -> None:
    assert match_text({}) == "all"
    assert match_text(KNOWN["match"] | {"minimum_bytes": 9}) == "video, a=b, ≥ 9 bytes"
    assert group_text(KNOWN["group"]) == "2 uploads, by lap"
    assert group_text({"quiet_s": 60.0, "minimum": 20}) == "until quiet for 60 s, at least 20"
    assert group_text(None) == ""
