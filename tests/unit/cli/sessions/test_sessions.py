"""``saccade sessions``: export of irregular telemetry, comparison of replays, options."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from click.testing import CliRunner
from mcap.reader import make_reader
from saccade_client import Recorded, RecordSize, SessionView

from cli.__main__ import saccade
from cli.failure import Failure
from cli.sessions.mcap_export import ExportSummary, McapSessionFile
from cli.sessions.replay import ComparedValue, require_identical
from cli.sessions.sessions import _describe, _row

SESSION = SessionView(
    id="ses_1",
    workload="live_splat",
    state="stopped",
    reason="idle",
    created_at="2026-01-02T03:04:05.678Z",
    frames={"sent": 12, "accepted": 9, "dropped": 2, "rejected": 1},
    figures={"splats": 12345, "psnr_db": 27.345},
    cost={"actual_usd": 0.125, "max_usd": 1.0},
    links={"page": "/sessions/ses_1", "job": "/v1/jobs/job_1"},
    replay_of="ses_0",
)
STORED_NS = 1_700_000_000_123_456_789


def frame(seq: int = 1, body: bytes = b"\x89PNG...", stored_ns: int = STORED_NS, **headers: str) -> Recorded:
    told = {"Frame-Seq": str(seq), "Frame-Captured-At": "1699999999.5", "Frame-Source": "wrist"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return Recorded("frames", seq, stored_ns, told, body)


def joints(batch: dict[str, Any]) -> Recorded:
    return Recorded("joints", 1, STORED_NS, {}, json.dumps({"names": ["pan", "lift"], "unit": "rad"} | batch).encode())


def exported(*messages: Recorded) -> tuple[ExportSummary, dict[str, list[tuple[Any, dict[str, Any]]]]]:
    stream = io.BytesIO()
    file = McapSessionFile(stream, SESSION)
    for message in messages:
        file.add(message)
    done = file.finish()
    found: dict[str, list[tuple[Any, dict[str, Any]]]] = {}
    reader = make_reader(io.BytesIO(stream.getvalue()))
    for _, channel, message in reader.iter_messages(log_time_order=False):
        found.setdefault(channel.topic, []).append((message, json.loads(message.data)))
    assert [one.metadata["id"] for one in reader.iter_metadata()] == ["ses_1"]
    assert done.topics == sorted(found)
    return done, found


def test_a_camera_that_states_its_clock_is_believed() -> None:
    _, found = exported(frame(Frame_Clock_Offset="0.25"))
    message, body = found["/camera/wrist"][0]
    assert message.log_time == 1_699_999_999_750_000_000
    assert message.publish_time == STORED_NS
    assert body["timestamp"] == {"sec": 1_699_999_999, "nsec": 750_000_000}
    assert (body["frame_id"], body["captured_at_s"], body["clock_offset_s"]) == ("wrist", 1699999999.5, 0.25)
    assert base64.b64decode(body["data"]) == b"\x89PNG..."


def test_the_clock_of_one_that_does_not_is_told_from_the_least_delay() -> None:
    """As the worker does: its least difference between arrival and capture so far."""
    first = frame(1, stored_ns=1_700_000_000_000_000_000)
    slow = frame(2, stored_ns=1_700_000_000_900_000_000)
    _, found = exported(first, slow)
    assert [body["clock_offset_s"] for _, body in found["/camera/wrist"]] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("content_type", "body", "name"),
    [
        ("image/jpeg", b"", "jpeg"),
        ("image/png; a=b", b"", "png"),
        ("", b"\xff\xd8\xff\xe0", "jpeg"),
        ("application/json", b"\x89PNG", "png"),
        ("", b"?", "unknown"),
    ],
)
def test_formats_have_the_names_that_foxglove_knows(content_type: str, body: bytes, name: str) -> None:
    _, found = exported(frame(body=body, Content_Type=content_type))
    assert found["/camera/wrist"][0][1]["format"] == name


def test_native_joints_are_not_taken_for_radians() -> None:
    sample = [7, 1699999999.5, [2048.0, 100.0]]
    done, found = exported(
        joints({"unit": "native", "samples": [sample]}),
        joints({"source": "leader", "samples": [[8, 1699999999.5, [0.1, 0.2], [2048.0, 100.0]]]}),
    )
    assert sorted(found) == ["/joints/leader", "/joints_native", "/joints_native/leader"]
    assert found["/joints_native"][0][1]["values"] == [2048.0, 100.0]
    assert found["/joints_native/leader"][0][1]["names"] == ["pan", "lift"]
    assert found["/joints/leader"][0][1]["joints"] == [
        {"name": "pan", "position": 0.1},
        {"name": "lift", "position": 0.2},
    ]
    assert done.joint_samples == 2


def test_a_sample_that_was_sent_again_is_written_once_and_one_with_its_number_too() -> None:
    """A robot that connects again may count from 0 again."""
    first, after_connect = [0, 1.0, [0.1, 0.0]], [0, 9.0, [0.2, 0.0]]
    done, found = exported(
        joints({"samples": [first, [1, 1.005, [0.15, 0.0]]]}),
        joints({"samples": [first]}),
        joints({"samples": [after_connect]}),
        joints({"samples": [first], "source": "leader"}),
    )
    positions = [body["joints"][0]["position"] for _, body in found["/joints"]]
    assert (positions, len(found["/joints/leader"]), done.joint_samples) == ([0.1, 0.15, 0.2], 1, 4)


@pytest.mark.parametrize(
    "message",
    [
        Recorded("joints", 1, STORED_NS, {}, b"{"),
        Recorded("acks", 1, STORED_NS, {}, b"[]"),
        Recorded("frames", 1, STORED_NS, {}, b"no number"),
        frame(Frame_Captured_At="nan"),
        frame(Frame_Seq="first"),
    ],
)
def test_what_cannot_be_read_is_counted_and_the_rest_is_written(message: Recorded) -> None:
    done, found = exported(message, frame(2))
    assert (done.unreadable, done.frames) == (1, 1)
    assert [body["seq"] for _, body in found["/camera/wrist"]] == [2]


def test_times_and_numbers_that_no_file_holds() -> None:
    """Frames that a server has numbered by microseconds, and a clock that is wrong by three thousand years."""
    seq = 1_700_000_000_000_000
    _, found = exported(frame(seq, Frame_Captured_At="9e10", Frame_Clock_Offset="0"))
    message, body = found["/camera/wrist"][0]
    assert (message.sequence, body["seq"]) == (0, seq)
    assert message.log_time == STORED_NS


def test_a_frame_that_was_refused_at_the_door_has_no_picture() -> None:
    done, found = exported(frame(1, b"", Frame_Refused="frame_too_large"))
    assert (done.frames, done.refused, found) == (0, 1, {})


@pytest.mark.parametrize(
    ("original", "replay", "same"),
    [("aa", "aa", True), ("aa", "ab", False), (None, None, False), (None, "aa", False), (0, 0, True)],
)
def test_a_replay_is_the_same_only_where_both_are_there(original: Any, replay: Any, same: bool) -> None:
    compared = [ComparedValue("chunks", 3, 3), ComparedValue("model.ply", original, replay)]
    if same:
        require_identical(compared)
        return
    with pytest.raises(Failure) as failure:
        require_identical(compared)
    assert failure.value.code == "replay_differs"
    assert "model.ply" in failure.value.message
    assert "chunks" not in failure.value.message


def test_frames_that_are_not_kept() -> None:
    assert RecordSize(joints=0, frames=7, acks=0, frames_sent=10).frames_missing == 3
    assert RecordSize(joints=0, frames=11, acks=0, frames_sent=10).frames_missing == 0


def test_a_session_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert _row(SESSION) == ("ses_1", "live_splat", "stopped", "9", "2", "1", "12345", "27.3 dB", "$0.1250")
    bare = SessionView(id="ses_2", workload="w", state="opening", created_at="2026-01-02T03:04:05Z")
    assert _row(bare)[3:] == ("0", "0", "0", "-", "-", "$0.0000")
    _describe(SESSION, "http://here")
    said = capsys.readouterr().out
    for line in (
        "state     stopped (idle)",
        "frames    12 frames sent = 9 accepted + 2 dropped + 1 rejected",
        "psnr      27.3 dB",
        "cost      $0.1250 of at most $1.0000",
        "page      http://here/sessions/ses_1",
        "replay of ses_0",
    ):
        assert line in said.splitlines()


@pytest.mark.parametrize("name", ["", "show", "open", "stop", "reset", "replay", "export"])
def test_every_command_of_sessions_takes_json(name: str) -> None:
    words = ["sessions", *([name] if name else []), "--help"]
    result = CliRunner().invoke(saccade, words)
    assert result.exit_code == 0
    assert "--json" in result.output


def test_options_before_a_subcommand_hold_for_it() -> None:
    runner = CliRunner(env={"SACCADE_URL": "http://127.0.0.1:2"})
    for words in (["--url", "http://127.0.0.1:1", "show", "ses_1"], ["show", "ses_1", "--url", "http://127.0.0.1:1"]):
        failure = runner.invoke(saccade, ["sessions", *words]).exception
        assert isinstance(failure, Failure)
        assert failure.code == "server_unreachable"
        assert "http://127.0.0.1:1 " in failure.message
    refused = runner.invoke(saccade, ["sessions", "--state", "running", "stop", "ses_1"])
    assert refused.exit_code == 2
    assert "--state applies to the list" in refused.output


def test_tables_among_the_parameters_are_not_poured_out(capsys: pytest.CaptureFixture[str]) -> None:
    _describe(SESSION.model_copy(update={"params": {"robot": {"a": [1]}, "seed": 7}}), "http://here")
    assert "params    robot=…, seed=7" in capsys.readouterr().out.splitlines()
