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
