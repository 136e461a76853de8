"""JavaScript receivers: our verifier with the same cases as in Python, and the published npm library."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.notifier.webhooks.endpoints.endpoint import EndpointSecret
from services.notifier.webhooks.signing import new_secret
from tests.harness.clients.chromium import chromium, pages
from tests.harness.clients.node import find_node
from tests.harness.webhooks.verification_cases import BODY, ID, SIGNER, Case, cases
from tests.rules.tree import ROOT

CASES = list(cases())

OURS = """
import { verify } from "./webhook.mjs";
import { readFileSync } from "node:fs";
const outcomes = [];
for (const { body, headers, keys } of JSON.parse(readFileSync(0))) {
  const raw = Buffer.from(body, "base64");
  try {
    outcomes.push((await verify(raw, headers, keys)).id);
  } catch (error) {
    outcomes.push(error.code ?? String(error));
  }
}
console.log(JSON.stringify(outcomes));
"""
FORMS = """
import { verify } from "./webhook.mjs";
import { readFileSync } from "node:fs";
const [{ body, headers, keys }] = JSON.parse(readFileSync(0));
const raw = Buffer.from(body, "base64");
const bodies = [raw, new Uint8Array(raw), Uint8Array.from(raw).buffer, raw.toString()];
const listed = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, [value]]));
const shown = [];
for (const given of bodies) shown.push((await verify(given, headers, keys)).event.data.name);
for (const given of [new Headers(headers), new Map(Object.entries(headers)), listed])
  shown.push((await verify(raw, given, keys)).event.data.name);
console.log(JSON.stringify(shown));
"""
IN_A_PAGE = """
(async () => {
  const { verify } = await import("/js/webhook.js");
  const outcomes = [];
  for (const { body, headers, keys } of GIVEN) {
    const raw = Uint8Array.from(atob(body), (letter) => letter.charCodeAt(0));
    try {
      outcomes.push((await verify(raw, headers, keys)).id);
    } catch (error) {
      outcomes.push(error.code ?? String(error));
    }
  }
  return outcomes;
})()
"""
PUBLISHED = """
import { readFileSync } from "node:fs";
import { Webhook } from "standardwebhooks";
const outcomes = [];
for (const { body, headers, keys } of JSON.parse(readFileSync(0))) {
  try {
    outcomes.push(new Webhook(keys.secrets).verify(Buffer.from(body, "base64"), headers).type);
  } catch (error) {
    outcomes.push(error.message);
  }
}
console.log(JSON.stringify(outcomes));
"""


def _run(folder: Path, program: str, given: list[Case]) -> list[str]:
    (folder / "program.mjs").write_text(program)
    shutil.copy(ROOT / "clients" / "js" / "webhook.js", folder / "webhook.mjs")
    cases_json = json.dumps([case.plain() for case in given])
    ran = subprocess.run(
        [find_node(), "program.mjs"],
        cwd=folder,
        input=cases_json,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    return list(json.loads(ran.stdout))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    found = _run(tmp_path_factory.mktemp("javascript"), OURS, CASES)
    return dict(zip([case.name for case in CASES], found, strict=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_javascript_receivers_accept_only_valid_signatures(case: Case, outcomes: dict[str, str]) -> None:
    assert outcomes[case.name] == case.outcome


def test_bodies_and_headers_are_accepted_in_every_form(tmp_path: Path) -> None:
    right = next(case for case in CASES if case.name == "secret beside v1a")
    assert _run(tmp_path, FORMS, [right]) == ["Нордшляйфе"] * 7


@pytest.mark.anyio
async def test_a_browser_accepts_the_same(tmp_path: Path) -> None:
    program = IN_A_PAGE.replace("GIVEN", json.dumps([case.plain() for case in CASES]))
    async with chromium(tmp_path) as browser, pages({"js": ROOT / "clients" / "js"}) as origin:
        found = await (await browser.open(origin + "/")).evaluate(program)
    assert dict(zip([case.name for case in CASES], found, strict=True)) == {case.name: case.outcome for case in CASES}


@pytest.fixture
def folder_with_published(tmp_path: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    command = [npm, "install", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0"]
    command += ["--fetch-timeout=15000", "standardwebhooks@1.1.1"]
    (tmp_path / "package.json").write_text("{}")
    installed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    if installed.returncode:
        pytest.skip(f"npm installs nothing here: {installed.stderr.strip()[-200:]}")
    return tmp_path


def test_the_npm_library_accepts_our_signatures(folder_with_published: Path) -> None:
    now = datetime.now(UTC)
    new, old, other = new_secret(), new_secret(), new_secret()
    secrets = (EndpointSecret(SecretStr(new)), EndpointSecret(SecretStr(old), now + timedelta(hours=1)))
    given = [
        Case(f"{signing} {secret}", "", BODY, SIGNER.headers(ID, BODY, secrets, signing, now), secret)
        for signing in ("v1", "both")
        for secret in (new, old, other)
    ]
    taken, refused = "job.succeeded", "No matching signature found"
    assert _run(folder_with_published, PUBLISHED, given) == [taken, taken, refused] * 2
