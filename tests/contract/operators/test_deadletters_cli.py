"""``saccade deadletters`` against a gateway: list, show, act on one letter and on all that match."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.__main__ import saccade
from cli.failure import Failure
from contracts.ids import new_id
from kit.settings import NatsSettings, S3Settings
from tests.harness.dead_letters import LetterMaker
from tests.harness.servers.chosen_bus import chosen_bus
from tests.harness.servers.embedded import EmbeddedS3
from tests.harness.servers.served_gateway import served_gateway

pytestmark = pytest.mark.anyio


@pytest.fixture
def servers(tmp_path: Path, shared_s3: EmbeddedS3) -> Iterator[tuple[NatsSettings, S3Settings]]:
    """Run a bus without dead letters."""
    (tmp_path / "nats").mkdir()
    with chosen_bus(tmp_path / "nats") as nats:
        yield nats.settings, shared_s3.with_new_bucket().settings


async def test_letters_are_listed_shown_and_acted_on(
    servers: tuple[NatsSettings, S3Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served_gateway(*servers, tmp_path) as (running, address):
        monkeypatch.setenv("SACCADE_URL", address)
        make = LetterMaker(running.store.client, "local")

        async def run(*words: str) -> Result:
            return await asyncio.to_thread(CliRunner().invoke, saccade, ["deadletters", *words])

        async def printed(*words: str) -> list[dict[str, Any]]:
            done = await run(*words, "--json")
            assert done.exception is None, (done.exception, done.output)
            return [json.loads(line) for line in done.stdout.splitlines()]

        assert (await run("ls")).output == "No dead letters.\n"
        job = await make.job("frame 3 is broken")
        number = await make.event(error="KeyError: 3")
        for sequence in (1, 2, 3):
            await make.delivery(new_id("whk"), sequence)
        assert len(await printed("ls")) == 5
        assert [letter["id"] for letter in await printed("ls", "--kind", "job")] == [job]
        groups = {group["error"]: group["count"] for group in await printed("ls", "--groups")}
        assert groups == {"http_status 500": 3, "KeyError: N": 1, "input_unreadable: frame N is broken": 1}
        table = (await run("ls")).output
        assert job in table
        assert "KeyError: 3" in table
        assert "the job is retried" in (await run("show", job)).output

        unconfirmed = await run("discard", "--kind", "delivery", "--why", "gone")
        assert isinstance(unconfirmed.exception, Failure)
        assert (unconfirmed.exception.code, "--expect 3" in unconfirmed.exception.hint) == ("count_not_confirmed", True)
        assert (await printed("discard", "--kind", "delivery", "--why", "gone", "--dry-run"))[0]["count"] == 3
        wrong = await run("discard", "--kind", "delivery", "--why", "gone", "--expect", "2")
        assert isinstance(wrong.exception, Failure)
        assert wrong.exception.code == "dead_letters_changed"
        (plan,) = await printed("discard", "--kind", "delivery", "--why", "gone", "--expect", "3")
        assert (plan["state"], plan["done"], plan["why"], plan["by"]) == ("ended", 3, "gone", "local")
        await printed("discard", str(number), "--why", "known")
        settled = await run("redrive", str(number), "--why", "again")
        assert isinstance(settled.exception, Failure)
        assert settled.exception.code == "dead_letter_settled"
        assert [letter["id"] for letter in await printed("ls")] == [job]
        assert len(await printed("ls", "--state", "discarded")) == 4
        both = await run("redrive", job, "--kind", "job", "--why", "which?")
        assert isinstance(both.exception, Failure)
        assert both.exception.code == "usage"
