"""``saccade key service`` without a server: what is refused, and the file of NATS's users."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.__main__ import saccade
from cli.embedded import programs
from cli.embedded.data_folder import DataFolder
from cli.failure import Failure
from cli.nats_users import BASE, base_of, change_users, services_of, with_service, written
from contracts.consumers import service_grant
from contracts.streams import EVENTS
from deploy.nats_operator import make
from kit.auth.bus_token import inbox_prefix, new_user_key


def _added(text: str, name: str, events: list[str]) -> tuple[str, str]:
    public_key, _ = new_user_key()
    return with_service(text, service_grant(name, events), public_key, inbox_prefix(name)), public_key


def test_the_file_of_the_repository_is_the_one_that_the_command_makes() -> None:
    text = (Path(__file__).parents[3] / "deploy" / "nats_users.conf").read_text()
    assert text == written(BASE, {})
    assert base_of(text) == list(BASE)


def test_a_service_is_added_and_its_next_key_replaces_the_first() -> None:
    text, first = _added(written(BASE, {}), "billing", ["job.succeeded"])
    text, other = _added(text, "reports", ["job.failed"])
    text, second = _added(text, "billing", ["job.succeeded", "upload.completed"])
    assert first not in text
    users = services_of(text)
    assert set(users) == {"billing", "reports"}
    assert (second in users["billing"], other in users["reports"]) == (True, True)
    assert f"$JS.ACK.{EVENTS.name}.billing-upload-completed.>" in users["billing"]
    assert "upload" not in users["reports"]
    assert base_of(text) == list(BASE)


def test_keys_that_are_made_at_once_are_all_in_the_file(tmp_path: Path) -> None:
    users = tmp_path / "users.conf"
    names = [f"service-{number}" for number in range(80)]
    users.write_text(written(BASE, {}))
    inode, start = users.stat().st_ino, threading.Barrier(8)

    def add(part: list[str]) -> None:
        start.wait(30)
        for name in part:
            change_users(users, lambda text: _added(text, name, ["job.succeeded"])[0])  # noqa: B023 - called at once

    threads = [threading.Thread(target=add, args=(names[number::8],)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(services_of(users.read_text())) == sorted(names)
    assert base_of(users.read_text()) == list(BASE)
    assert users.stat().st_ino == inode, "a mount in a container follows the inode"


def test_a_change_that_fails_leaves_the_users(tmp_path: Path) -> None:
    users = tmp_path / "users.conf"
    users.write_text("authorization { user: a }\n")
    with pytest.raises(ValueError, match="not a file of NATS's users"):
        change_users(users, lambda text: _added(text, "billing", ["job.succeeded"])[0])
    assert users.read_text() == "authorization { user: a }\n"
    with pytest.raises(FileNotFoundError):
        change_users(tmp_path / "missing", str)
    assert not (tmp_path / "missing").exists()


def _users_of_two(folder: Path) -> Path:
    text, _ = _added(written(BASE, {}), "billing", ["job.succeeded"])
    users = folder / "users.conf"
    users.write_text(_added(text, "reports", ["job.failed"])[0])
    return users


def test_a_revoked_service_is_removed_and_the_others_stay(tmp_path: Path) -> None:
    users = _users_of_two(tmp_path)
    revoke = ["key", "service", "--revoke", "billing", "--users", str(users)]
    done = CliRunner().invoke(saccade, revoke)
    assert done.exit_code == 0, done.output
    assert "billing is removed" in done.output
    assert "kill -s HUP nats" in done.output, "NATS has to be told"
    assert users.read_text() == written(BASE, {"reports": services_of(users.read_text())["reports"]})
    again = CliRunner().invoke(saccade, revoke)
    assert isinstance(again.exception, Failure)
    assert (again.exception.code, again.exception.hint) == ("service_not_found", "It has: reports.")


def test_signed_credentials_are_not_revoked_one_by_one(tmp_path: Path) -> None:
    seed = tmp_path / "user_services.seed"
    seed.write_text(make()["user_services.seed"])
    refused = CliRunner().invoke(saccade, ["key", "service", "--revoke", "billing", "--seed", str(seed)])
    assert isinstance(refused.exception, Failure)
    assert refused.exception.code == "revocation_unsupported"


@pytest.mark.parametrize("words", [["--revoke", "--events", "job.failed"], ["--revoke", "--out", "a.creds"], []])
def test_making_and_revoking_are_two_commands(words: list[str], tmp_path: Path) -> None:
    users = _users_of_two(tmp_path)
    before = users.read_text()
    refused = CliRunner().invoke(saccade, ["key", "service", "billing", "--users", str(users), *words])
    assert refused.exit_code != 0
    assert users.read_text() == before


@pytest.mark.parametrize("out", ["missing/billing.creds", "file/billing.creds", "."])
def test_a_file_that_cannot_be_written_is_noticed_before_the_key_is_made(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    users = _users_of_two(tmp_path)
    before = users.read_text()
    words = ["key", "service", "billing", "--events", "job.failed", "--users", str(users), "--out", out]
    # Nothing answers at this address: the file is looked at before.
    refused = CliRunner().invoke(saccade, words, env={"NATS_URL": "nats://127.0.0.1:1"})
    assert isinstance(refused.exception, Failure)
    assert refused.exception.code in {"file_not_writable", "file_exists"}
    assert users.read_text() == before


@pytest.mark.parametrize("text", ["", "users: [", "authorization { user: a }\n", '[{"id": "a"}]'])
def test_another_file_is_left_alone(text: str) -> None:
    with pytest.raises(ValueError, match="not a file of NATS's users"):
        _added(text, "billing", ["job.succeeded"])


def test_services_stay_over_a_restart_of_the_embedded_system(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    try:
        programs.nats_server(folder, 4222)
        users = programs.users_file(folder.path)
        text, public_key = _added(users.read_text(), "billing", ["job.succeeded"])
        users.write_text(text)
        programs.nats_server(folder, 4223)
        assert public_key in services_of(users.read_text())["billing"]
        assert folder.secrets.nats_password in users.read_text()
    finally:
        folder.release()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dispatcher", "--events", "job.succeeded"], "a service of Saccade's own"),
        (["worker", "--events", "job.succeeded"], "a service of Saccade's own"),
        (["Billing", "--events", "job.succeeded"], "a service's name matches"),
        (["billing.>", "--events", "job.succeeded"], "a service's name matches"),
        (["billing", "--events", "job.success"], "no such durable event"),
        (["billing", "--events", "job.*"], "no such durable event"),
        (["billing", "--events", "job.progressed"], "no such durable event"),
        (["billing", "--events", " , "], "names no event"),
        (["billing", "--events", "job.succeeded", "--tenant", "*"], "--tenant"),
        (["billing", "--events", "job.succeeded", "--seed", "no.seed"], "no.seed"),
        (["billing", "--events", "job.succeeded", "--data", "nothing"], "No Saccade runs on nothing"),
    ],
)
def test_what_is_refused_leaves_no_file(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(saccade, ["key", "service", *words])
    assert isinstance(refused.exception, Failure)
    assert said in refused.exception.message
    assert list(tmp_path.iterdir()) == []


def test_credentials_are_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "a.creds"
    file.write_text("mine")
    refused = CliRunner().invoke(saccade, ["key", "service", "billing", "--events", "job.failed", "--out", str(file)])
    assert isinstance(refused.exception, Failure)
    assert refused.exception.code == "file_exists"
    assert file.read_text() == "mine"


def test_the_seed_of_users_services_is_among_the_keys() -> None:
    assert make()["user_services.seed"].startswith("SA")
