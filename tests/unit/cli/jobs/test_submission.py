"""Files and parameters of a command line become the inputs and parameters of a job."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from cli.failure import USAGE, Failure
from cli.jobs.submission import assign_files, check_files, duplicate_notes, fetch_text, parse_params, upload_text
from contracts.ids import new_id


def workload(*inputs: tuple[str, int, int]) -> dict[str, Any]:
    listed = [{"name": name, "title": name, "minimum": low, "maximum": high} for name, low, high in inputs]
    return {"name": "any", "inputs": listed}


LAPS = workload(("reference", 1, 1), ("other", 1, 1))


def test_files_go_to_inputs_in_order() -> None:
    assert assign_files(LAPS, ["a.mp4", "b.mp4"]) == {"reference": ["a.mp4"], "other": ["b.mp4"]}


def test_what_is_left_over_goes_to_the_first_input_that_takes_more() -> None:
    photos = workload(("photos", 2, 4), ("mask", 0, 1))
    assert assign_files(photos, ["1", "2", "3"]) == {"photos": ["1", "2", "3"]}
    assert assign_files(photos, ["1", "2", "3", "4", "5"]) == {"photos": ["1", "2", "3", "4"], "mask": ["5"]}
    assert assign_files(workload(("clip", 0, 1)), []) == {}


@pytest.mark.parametrize("files", [[], ["a"], ["a", "b", "c"]])
def test_too_few_and_too_many_files_are_refused(files: list[str]) -> None:
    with pytest.raises(Failure) as refused:
        assign_files(LAPS, files)
    assert refused.value.exit_code == USAGE
    assert "reference" in refused.value.hint


def test_values_are_json_where_they_can_be() -> None:
    pairs = ["sectors=[10.5, 20]", "flow=off", "height=720", "on=true", "title=a=b", "empty="]
    assert parse_params(pairs) == {
        "sectors": [10.5, 20],
        "flow": "off",
        "height": 720,
        "on": True,
        "title": "a=b",
        "empty": "",
    }


@pytest.mark.parametrize("pair", ["flow", "=off"])
def test_a_parameter_without_name_or_value_is_refused(pair: str) -> None:
    with pytest.raises(Failure) as refused:
        parse_params([pair])
    assert refused.value.exit_code == USAGE


def test_files_are_looked_at_before_anything_is_sent(tmp_path: Path) -> None:
    good, empty = tmp_path / "good.mp4", tmp_path / "empty.mp4"
    good.write_bytes(b"x")
    empty.touch()
    check_files([str(good), new_id("upl")])
    for name, code in ((tmp_path / "none.mp4", "no_such_file"), (tmp_path, "no_such_file"), (empty, "upload_empty")):
        with pytest.raises(Failure) as refused:
            check_files([str(good), str(name)])
        assert refused.value.code == code
        assert str(name) in refused.value.message


@pytest.mark.parametrize(
    ("files", "given"),
    [
        (["a.jpg", "b.HEIC"], {"photos": ["a.jpg", "b.HEIC"]}),
        (["all.zip"], {"archive": ["all.zip"]}),
        (["around.mp4"], {"video": ["around.mp4"]}),
        (["upl_1", "upl_2"], {"photos": ["upl_1", "upl_2"]}),
    ],
)
def test_of_inputs_of_which_one_is_given_the_files_say_which(files: list[str], given: dict[str, list[str]]) -> None:
    inputs = [
        {"name": "photos", "title": "Photos", "media": "image", "minimum": 0, "maximum": 500},
        {"name": "archive", "title": "A ZIP", "media": "archive", "minimum": 0, "maximum": 1},
        {"name": "video", "title": "A video", "media": "video", "minimum": 0, "maximum": 1},
    ]
    workload = {"name": "nerf", "inputs": inputs, "one_of": [["photos", "archive", "video"]]}
    assert assign_files(workload, files) == given


def test_the_same_content_under_two_names_is_noted_with_its_hash(tmp_path: Path) -> None:
    content = {"a.mp4": b"lap one", "b.mp4": b"lap one", "c.mp4": b"lap two"}
    paths = {name: tmp_path / name for name in content}
    for name, path in paths.items():
        path.write_bytes(content[name])
    (note,) = duplicate_notes([str(path) for path in paths.values()])
    assert "a.mp4" in note
    assert "b.mp4" in note
    assert "c.mp4" not in note
    assert hashlib.sha256(b"lap one").hexdigest()[:12] in note
    assert duplicate_notes([str(paths["a.mp4"]), str(paths["c.mp4"])]) == []
    upload_id = new_id("upl")
    assert upload_id in duplicate_notes([upload_id, upload_id])[0]


def test_the_bar_of_an_upload_says_that_the_server_still_checks_the_file() -> None:
    assert "server" not in upload_text(500, 1000)
    assert "the server checks it" in upload_text(1000, 1000)


def test_a_url_is_no_file_and_its_ending_tells_its_media() -> None:
    check_files(["https://example.com/a.mp4?token=x", "HTTP://example.com/b"])
    clip = {"name": "clip", "title": "clip", "minimum": 0, "maximum": 1, "media": "video"}
    photos = {"name": "photos", "title": "photos", "minimum": 0, "maximum": 1, "media": "archive"}
    either = {"name": "any", "inputs": [clip, photos], "one_of": [["clip", "photos"]]}
    assert assign_files(either, ["https://example.com/a.zip?token=x.mp4"]) == {
        "photos": ["https://example.com/a.zip?token=x.mp4"]
    }
    assert duplicate_notes(["https://example.com/a.mp4", "https://example.com/b.mp4"]) == []
    assert len(duplicate_notes(["https://example.com/a.mp4"] * 2)) == 1
    assert [fetch_text(*progress) for progress in ((0, 0), (0, 2000), (2_000_000, 0))] == [
        "waiting for its server", "waiting for its server", "2.0 MB received",
    ]  # fmt: skip
    assert fetch_text(1_000_000, 2_000_000) == "2.0 MB"
    assert fetch_text(2_000_000, 2_000_000) == "2.0 MB received; the server checks it"
