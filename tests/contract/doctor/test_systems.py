"""Systems that ``saccade doctor`` tells apart, in an interpreter each: an environment file changes the environment."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from kit.settings import inherited_environment
from tests.rules.tree import ROOT

_SHOW = """
import json, sys
from pathlib import Path
from cli.doctor.system import find_system
found = find_system(None, None, Path(sys.argv[1]) if len(sys.argv) > 1 else None)
s3 = found.s3
print(json.dumps({
    "kind": found.kind, "url": found.url, "running": found.running, "faults": dict(found.faults),
    "nats": found.nats and [found.nats.url, found.nats.user],
    "s3": s3 and [s3.endpoint_url, s3.public_endpoint_url, s3.bucket, s3.access_key_id],
    "modal": found.runs_on_modal, "public": dict(found.public_hosts), "secrets": sorted(found.secrets),
}))
"""


def found(folder: Path, *files: str, **variables: str) -> dict[str, Any]:
    environment = inherited_environment(("PATH", "LANG")) | {"PYTHONPATH": str(ROOT), "HOME": str(folder)} | variables
    done = subprocess.run(
        [sys.executable, "-c", _SHOW, *files],
        env=environment,
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


def test_a_folder_compose_and_servers_are_told_apart(tmp_path: Path) -> None:
    assert found(tmp_path)["kind"] == "embedded"
    servers = found(tmp_path, NATS_URL="nats://bus.example:4222", NATS_PASSWORD="of-the-bus")
    assert (servers["kind"], servers["nats"]) == ("servers", ["nats://bus.example:4222", None])
    assert "S3_ENDPOINT_URL" in servers["faults"]["bucket"]
    assert servers["secrets"] == ["of-the-bus"]

    file = tmp_path / "compose.env"
    file.write_text("S3_PORT=9333\nSACCADE_PORT=8333\nS3_SECRET_ACCESS_KEY=of-the-bucket\n")
    compose = found(tmp_path, str(file))
    assert (compose["kind"], compose["url"]) == ("compose", "http://127.0.0.1:8333")
    assert compose["nats"] == ["nats://127.0.0.1:4222", "saccade"]
    assert compose["s3"] == ["http://127.0.0.1:9333", "http://127.0.0.1:9000", "saccade", "saccade"]
    assert "of-the-bucket" in compose["secrets"]


def test_the_bucket_of_a_provider_takes_the_place_of_that_of_compose(tmp_path: Path) -> None:
    file = tmp_path / "compose.env"
    bucket = "B2_S3_ENDPOINT=s3.example.com\nB2_BUCKET=ours\nB2_KEY_ID=b2-key\nB2_APP_KEY=b2-secret\n"
    local = "S3_ACCESS_KEY_ID=saccade\nS3_SECRET_ACCESS_KEY=local\nS3_PUBLIC_ENDPOINT_URL=http://127.0.0.1:9000\n"
    cloud = "MODAL_TOKEN_ID=ak-1\nMODAL_TOKEN_SECRET=as-1\nDISPATCHER_WORKER_BUS_URL=https://vision.example.com\n"
    file.write_text(f"{bucket}{local}{cloud}SACCADE_DOMAIN=vision.example.com\n")
    shown = found(tmp_path, str(file))
    assert shown["faults"] == {}
    assert shown["s3"] == ["https://s3.example.com", "https://s3.example.com", "ours", "b2-key"]
    assert shown["modal"]
    assert shown["public"] == {"SACCADE_DOMAIN": "vision.example.com"}
