"""``saccade key --file``: keys are added to a file that has limits of tenants too."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from cli.__main__ import saccade
from cli.failure import Failure
from kit.auth.api_keys import Authenticator, AuthSettings

LIMITS = [
    {"tenant": "acme", "retention_hours": {"results": 48, "uploads": 48}},
    {"tenant": "acme", "quotas": {"sessions": 2}},
]


def test_a_key_is_added_beside_limits(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(LIMITS))
    for key_id in ("one", "two"):
        done = CliRunner().invoke(saccade, ["key", "--tenant", "acme", "--id", key_id, "--file", str(file)])
        assert done.exit_code == 0, done.exception
    entries = json.loads(file.read_text())
    assert entries[:2] == LIMITS
    assert [entry["id"] for entry in entries[2:]] == ["one", "two"]
    Authenticator(AuthSettings(api_keys_file=file))
    again = CliRunner().invoke(saccade, ["key", "--tenant", "acme", "--id", "one", "--file", str(file)])
    assert isinstance(again.exception, Failure)
    assert again.exception.code == "key_exists"
