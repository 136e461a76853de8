"""The command line: exit codes, API keys, errors and texts."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from cli.__main__ import main, saccade
from cli.embedded.data_folder import DataFolder
from cli.failure import Failure
from cli.jobs.events import event_line, parse_since
from cli.jobs.follow import StopsByCancellation, progress_text
from cli.output import print_table
from cli.progress_bar import format_duration, format_size
from contracts.errors import ErrorCode, SaccadeError
from kit.auth.api_keys import Authenticator, AuthSettings
from tests.harness.servers.embedded import free_port


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["saccade", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--help",), 0),
        (("up", "--help"), 0),
        (("nonsense",), 2),
        (("jobs", "--state", "asleep"), 2),
        (("up", "--port", "99999"), 2),
        (("submit",), 2),
        (("key", "--tenant", "Not A Tenant"), 2),
    ],
)
def test_exit_codes(monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int) -> None:
    assert call(monkeypatch, *words) == code


@pytest.mark.parametrize("words", [("job",), ("jobs", "--search"), ("events", "--job"), ("cancel",)])
def test_an_argument_that_is_not_utf8_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    argument = os.fsdecode(b"lap_\xff")
    assert call(monkeypatch, *words, argument, "--url", f"http://127.0.0.1:{free_port()}") == 2
    assert capsys.readouterr().err.splitlines()[0] == r"error: lap_\udcff is not UTF-8 (not_utf8)"


def test_the_list_of_commands_says_what_each_says_of_itself() -> None:
    """The list is shown without importing the commands."""
    context = click.Context(saccade)
    names = saccade.list_commands(context)
    own = [(name, command.get_short_help_str(100)) for name in names if (command := saccade.get_command(context, name))]
    shown = CliRunner().invoke(saccade, ["--help"]).output.partition("Commands:\n")[2]
    assert [(name, text) for name, text in re.findall(r"^  ([\w-]+) +(\S.*)$", shown, re.MULTILINE)] == own


@pytest.mark.parametrize("name", ["up", "demo", "submit", "jobs", "job", "cancel", "retry", "events", "artifacts"])
def test_every_command_takes_json(name: str) -> None:
    assert "--json" in CliRunner().invoke(saccade, [name, "--help"]).output


def test_a_key_opens_what_its_entry_says_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    made, inodes = [], set()
    for tenant, scope in (("acme", "read"), ("other", "write")):
        words = ["key", "--tenant", tenant, "--scope", scope, "--file", str(file), "--json"]
        result = CliRunner().invoke(saccade, words)
        assert result.exit_code == 0, result.output
        made.append(json.loads(result.stdout)["key"])
        inodes.add(file.stat().st_ino)
    # Hashes of random secrets: services in containers read the file as another user.
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert len({file.stat().st_ino, *inodes}) == 1, "a mount in a container follows the inode"
    assert not any(key.partition(".")[2] in file.read_text() for key in made)
    authenticator = Authenticator(AuthSettings(api_keys_file=file))
    principal = authenticator.authenticate({"authorization": f"Bearer {made[0]}"})
    assert principal.tenant == "acme"
    assert principal.scopes == {"read"}
    with pytest.raises(SaccadeError) as refused:
        authenticator.authenticate({"authorization": f"Bearer {made[0]}x"})
    assert refused.value.code is ErrorCode.UNAUTHENTICATED


def test_a_key_of_the_same_name_replaces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = str(tmp_path / "keys.json")
    assert call(monkeypatch, "key", "--id", "mine", "--file", file) == 0
    before = Path(file).read_text()
    assert call(monkeypatch, "key", "--id", "mine", "--file", file) == 1
    assert Path(file).read_text() == before


def test_a_data_folder_is_private_and_keeps_its_secrets(tmp_path: Path) -> None:
    first = DataFolder(tmp_path / "data")
    secrets = first.secrets
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o700
    assert stat.S_IMODE((first.path / "secrets.json").stat().st_mode) == 0o600
    with pytest.raises(Failure) as refused:
        DataFolder(tmp_path / "data")
    assert refused.value.code == "already_running"
    first.release()
    again = DataFolder(tmp_path / "data")
    assert again.secrets == secrets
    again.release()


@pytest.mark.parametrize(
    ("text", "sent"),
    [("90s", "90"), ("15m", "900"), ("2h", "7200"), ("7d", "604800"), ("45", "45"), ("ab12.77", "ab12.77")],
)
def test_how_long_ago(text: str, sent: str) -> None:
    assert parse_since(text) == sent


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"stage": "read", "fraction": 0.01, "eta_s": None}, "read"),
        ({"stage": "read", "message": "reading", "fraction": 0.3, "eta_s": 24.4}, "read · reading · 24 s left"),
        ({"stage": "two_words", "fraction": 1.0, "eta_s": 0.0}, "two words"),
    ],
)
def test_progress_in_words(data: dict[str, Any], text: str) -> None:
    assert progress_text(data) == text


def test_events_in_words() -> None:
    envelope = {"time": "2026-01-02T03:04:05.678Z", "subject": "job_1"}
    error = {"error": {"message": "Nothing moves.", "code": "clip_static"}}
    assert event_line("job.failed", envelope, error).split() == [
        "2026-01-02",
        "03:04:05",
        "UTC",
        "job.failed",
        "job_1",
        "Nothing",
        "moves.",
        "(clip_static)",
    ]


def test_a_worker_that_was_stopped_for_a_cancellation_is_not_lost() -> None:
    lost = {"failure": "preempted", "error": {"message": "The worker was stopped.", "code": "worker_lost"}}
    stopped = StopsByCancellation()
    shown = []
    for kind, data in (("job.interrupted", lost), ("job.cancel_requested", {}), ("job.interrupted", lost)):
        envelope = {"time": "2026-01-02T03:04:05Z", "subject": "job_1"}
        shown.append(event_line(kind, envelope, data, cancelled=stopped.explains(kind, envelope)))
    assert "worker_lost" in shown[0]
    assert "worker_lost" not in shown[2]
    assert "cancelled" in shown[2]
    assert not stopped.explains("job.interrupted", {"subject": "job_2"})


@pytest.mark.parametrize(("name", "alike"), [("job.succeded", "job.succeeded"), ("nonsense", "job.*")])
def test_an_unknown_event_type_is_refused_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, alike: str
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    assert call(monkeypatch, "events", "--type", name, "--url", nobody) == 2
    said = capsys.readouterr().err
    assert f"There is no event type {name} (unknown_type)" in said
    assert alike in said
    assert call(monkeypatch, "events", "--type", "job.*", "--type", "job.failed", "--url", nobody) == 1


@pytest.mark.parametrize("command", [("jobs",), ("sessions",), ("sessions", "show", "x"), ("webhooks", "list")])
def test_the_address_may_stand_before_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    first, second = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    assert call(monkeypatch, "--url", first, *command) == 1
    assert first in capsys.readouterr().err
    assert call(monkeypatch, "--url", first, *command, "--url", second) == 1
    assert second in capsys.readouterr().err
    assert call(monkeypatch, "--url", first, "up") == 2


def test_a_host_that_does_not_exist_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "jobs", "--url", "http://saccade.invalid:8080") == 1
    said = capsys.readouterr().err
    assert "There is no host saccade.invalid" in said
    assert "(host_not_found)" in said
    assert "--url" in said
    assert "saccade up" not in said


def test_sizes_and_durations() -> None:
    assert [format_size(one) for one in (0, 999, 1500, 23_400_000, 5e9)] == [
        "0 B",
        "999 B",
        "1.5 KB",
        "23.4 MB",
        "5.00 GB",
    ]
    assert [format_duration(one) for one in (0.2, 59.4, 60, 3599, 7260)] == [
        "0 s",
        "59 s",
        "1 min 00 s",
        "59 min 59 s",
        "2 h 01 min",
    ]


def test_tables_line_up(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "S"), [("whole lap", "-0.237"), ("S1", "+12.000")])
    assert capsys.readouterr().out.splitlines() == ["NAME             S", "whole lap   -0.237", "S1         +12.000"]
