"""``saccade doctor`` beside ``saccade up``: no false alarm, no secret; an endpoint without a receiver is found."""

from __future__ import annotations

import json
from pathlib import Path

from tests.harness.servers.embedded import free_port
from tests.system.embedded import run, up


def test_a_healthy_system_is_well_and_a_webhook_without_a_receiver_is_found(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with up(data) as system:
        url = str(system.ready()["url"])
        done = run("doctor", "--data", str(data), "--json", cwd=tmp_path)
        found = {line["check"]: line for line in map(json.loads, done.stdout.splitlines())}
        # Only the disk of the machine that runs the tests may be small for the streams.
        assert {check for check, line in found.items() if line["outcome"] != "ok"} <= {"disk"}, done.stdout
        assert done.returncode == 0, done.stdout
        assert {"bus streams", "bus clock", "bucket cors", "bucket multipart", "versions", "webhooks"} <= set(found)
        assert found["versions"]["message"].startswith("gateway, dispatcher, notifier and this command")

        hook = f"http://127.0.0.1:{free_port()}/hook"
        assert run("webhooks", "create", hook, "--url", url, cwd=tmp_path).returncode == 0
        done = run("doctor", "--data", str(data), cwd=tmp_path)
        assert done.returncode == 1
        failed = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
        assert len(failed) == 1
        assert "does not answer" in failed[0]
        secrets = json.loads((data / "secrets.json").read_text())
        assert not [name for name, value in secrets.items() if len(value) > 10 and value in done.stdout]
        assert system.stop() == 0
