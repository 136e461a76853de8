"""``saccade key service`` without a server: what is refused, and the file of NATS's users."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.__main__ import saccade
from cli.embedded import programs
from cli.embedded.data_folder import DataFolder
from cli.failure import Failure
from cli.nats_users import BASE, base_of, services_of, with_service, written
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
