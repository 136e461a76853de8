"""``saccade key sandbox`` without a server: what is refused leaves no file."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.__main__ import saccade
from cli.failure import Failure
from cli.nats_users import BASE, services_of, with_service, written
from contracts.consumers import service_grant
from contracts.sandbox import reader_grant
from deploy.nats_operator import make
from kit.auth.bus_token import inbox_prefix, new_user_key


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["Staging"], "not a sandbox's name"),
        (["staging.>"], "not a sandbox's name"),
        (["staging", "--seed", "no.seed"], "no.seed"),
        (["staging", "--data", "nothing"], "No Saccade runs on nothing"),
    ],
)
def test_what_is_refused_leaves_no_file(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(saccade, ["key", "sandbox", *words])
    assert isinstance(refused.exception, Failure)
    assert said in refused.exception.message
    assert list(tmp_path.iterdir()) == []


def test_credentials_are_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "a.creds"
    file.write_text("mine")
    refused = CliRunner().invoke(saccade, ["key", "sandbox", "staging", "--out", str(file)])
    assert isinstance(refused.exception, Failure)
    assert refused.exception.code == "file_exists"
    assert file.read_text() == "mine"


def test_a_sandbox_and_a_service_of_the_same_name_are_two_users() -> None:
    text = written(BASE, {})
    for grant in (service_grant("staging", ["job.failed"]), reader_grant("staging"), reader_grant("other")):
        public_key, _ = new_user_key()
        text = with_service(text, grant, public_key, inbox_prefix(grant.name))
    assert set(services_of(text)) == {"staging", "sandbox.staging", "sandbox.other"}


def test_a_revoked_reader_is_removed_and_the_others_stay(tmp_path: Path) -> None:
    text = written(BASE, {})
    for grant in (service_grant("staging", ["job.failed"]), reader_grant("staging"), reader_grant("other")):
        text = with_service(text, grant, new_user_key()[0], inbox_prefix(grant.name))
    users = tmp_path / "users.conf"
    users.write_text(text)
    revoke = ["key", "sandbox", "--revoke", "staging", "--users", str(users)]
    done = CliRunner().invoke(saccade, revoke)
    assert done.exit_code == 0, done.output
    assert "The reader of staging is removed" in done.output
    assert "kill -s HUP nats" in done.output, "NATS has to be told"
    assert set(services_of(users.read_text())) == {"staging", "sandbox.other"}
    again = CliRunner().invoke(saccade, revoke)
    assert isinstance(again.exception, Failure)
    assert again.exception.code == "service_not_found"


def test_signed_readers_are_not_revoked_one_by_one(tmp_path: Path) -> None:
    seed = tmp_path / "sandboxes.seed"
    seed.write_text(make()["sandboxes.seed"])
    refused = CliRunner().invoke(saccade, ["key", "sandbox", "--revoke", "staging", "--seed", str(seed)])
    assert isinstance(refused.exception, Failure)
    assert refused.exception.code == "revocation_unsupported"
    assert "sandboxes.seed" in refused.exception.hint


def test_a_reader_is_not_made_and_revoked_at_once(tmp_path: Path) -> None:
    refused = CliRunner().invoke(
        saccade, ["key", "sandbox", "--revoke", "staging", "--out", str(tmp_path / "staging.creds")]
    )
    assert refused.exit_code != 0
    assert list(tmp_path.iterdir()) == []
