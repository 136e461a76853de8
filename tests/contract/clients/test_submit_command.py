"""``saccade submit`` and ``saccade upload`` with what people pass to them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.contract.clients.test_client_use import Command
from tests.harness.network.breaking_proxy import BreakingProxy
from tests.harness.servers.gateway import video
from tests.harness.servers.running_services import RunningServices

pytestmark = pytest.mark.anyio


@pytest.fixture
def clips(tmp_path: Path) -> list[str]:
    found = []
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(video())
        found.append(str(tmp_path / name))
    return found


async def test_the_same_key_and_files_are_one_job(
    services: RunningServices, front: BreakingProxy, clips: list[str]
) -> None:
    submit = Command(front.url, "submit")
    words = ("lap_compare", *clips, "--idempotency-key", Path(clips[0]).parent.name)
    ((first,), (again,)) = (await submit(*words), await submit(*words))
    assert first["id"] == again["id"]
    Path(clips[1]).write_bytes(video() + bytes(8))
    assert (await submit.refused(*words)).code == "idempotency_key_reused", "another file is another job"


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "[1, 1e999]"])
async def test_a_parameter_that_is_no_json_number_is_refused(
    services: RunningServices, front: BreakingProxy, clips: list[str], value: str
) -> None:
    refused = await Command(front.url, "submit").refused("lap_compare", *clips, "-p", f"sectors={value}")
    assert (refused.code, refused.exit_code) == ("usage", 2)


async def test_a_file_whose_name_is_not_utf8_is_refused_by_name(
    services: RunningServices, front: BreakingProxy, tmp_path: Path
) -> None:
    name = os.fsdecode(b"lap_\xff.mp4")
    (tmp_path / name).write_bytes(video())
    refused = await Command(front.url, "upload").refused(str(tmp_path / name))
    assert refused.code == "file_name_not_utf8"
    assert r"lap_\udcff.mp4" in refused.message
