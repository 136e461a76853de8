"""Workers on Modal: client, token, and whether what is deployed is of this checkout. By Modal's own command line."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cli.doctor.report_line import ReportLine, fail, ok
from cli.doctor.system import System
from cli.operators.modal import workers_of
from cli.operators.modal_commands import END
from cli.settings import ROOT, child_environment
from modal_workers import catalog
from modal_workers.deployment import app_name, deployed_version

#: Modal's client is imported once, and each app is one request.
DEADLINE_S: Final = 60.0
_NO_TOKEN: Final = re.compile(r"\bToken (missing|validation failed|ID and secret must)")
_NOT_THERE: Final = re.compile(r"No App with name")
_DEPLOY: Final = "saccade modal deploy"
_OUTPUT_CHARACTERS: Final = 160


@dataclass(frozen=True)
class AppHistory:
    """Deployments of one app, as Modal's command line printed them."""

    code: int
    output: str

    @property
    def newest_tag(self) -> str | None:
        """Tag of the newest deployment; None if that has none, as those of older versions."""
        begin = self.output.find("[")
        rows = json.loads(self.output[begin:]) if begin >= 0 else []
        return (rows[0].get("tag") or None) if rows else None


async def check_modal(system: System, *, wanted: bool) -> list[ReportLine]:
    """Look at Modal where workers run there, or where it is ``wanted``."""
    if not (wanted or system.runs_on_modal):
        return [ok("modal", "not used: workers run on this machine (--modal looks at it anyway)")]
    if importlib.util.find_spec("modal") is None:
        fix = "Install it with: pip install -c constraints.txt -e '.[modal]'."
        return [fail("modal", "its client is not installed", fix)]
    workers = workers_of([name for name, workload in catalog.workloads().items() if workload.kind != "stage"])
    apps = {name: app_name(name) for name in workers}
    histories = await _histories(list(apps.values()))
    return judge_apps({name: histories[app] for name, app in apps.items() if app in histories}, deployed_version())


async def _histories(apps: Sequence[str]) -> dict[str, AppHistory]:
    """Request each app's deployments in one process, which ends with this call."""
    lines = "".join(json.dumps(["app", "history", app, "--json"]) + "\n" for app in apps)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.operators.modal_commands"),
        cwd=ROOT,
        env=child_environment(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        written, _ = await process.communicate(lines.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    *answers, rest = re.split(rf"{END}(\d+)\n", written.decode(errors="replace"))
    pairs = list(zip(answers[::2], answers[1::2], strict=False))
    # A command that ends the process leaves its output without a code.
    pairs += [(rest, "1")] if len(pairs) < len(apps) else []
    return {app: AppHistory(int(code), output) for app, (output, code) in zip(apps, pairs, strict=False)}


def judge_apps(histories: Mapping[str, AppHistory], version: str) -> list[ReportLine]:
    """Return what is wrong with the deployments, by worker. Pure."""
    if any(history.code and _NO_TOKEN.search(history.output) for history in histories.values()):
        fix = "Run `modal token new`, or set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET."
        return [fail("modal token", "there is none that Modal accepts", fix)]
    missing = [name for name, history in histories.items() if history.code and _NOT_THERE.search(history.output)]
    broken = {name: history for name, history in histories.items() if history.code and name not in missing}
    if broken:
        name, history = next(iter(broken.items()))
        says = " ".join(history.output.split())[-_OUTPUT_CHARACTERS:] or "no answer"
        fix = "Check MODAL_ENVIRONMENT and the network, then run `modal app list`."
        return [fail("modal", f"the deployments of {name} are not told: {says}", fix)]
    found = [ok("modal token", "Modal accepts it")]
    if missing:
        fix = f"Deploy with: {_DEPLOY}{_options(missing, len(histories))}, to the MODAL_ENVIRONMENT of the dispatcher."
        found.append(fail("modal apps", f"not deployed: {', '.join(missing)}", fix))
    tags = {name: history.newest_tag for name, history in histories.items() if not history.code}
    older = [name for name, tag in tags.items() if tag != version]
    if older:
        said = sorted({tag or "none" for name, tag in tags.items() if name in older})
        says = f"of another version than this checkout ({version}): {', '.join(older)} ({', '.join(said)})"
        found.append(fail("modal apps", says, f"Deploy with: {_DEPLOY}{_options(older, len(histories))}."))
    if not missing and not older:
        found.append(ok("modal apps", f"all {len(tags)} are deployed in the version of this checkout ({version})"))
    return found


def _options(names: Sequence[str], all_names: int) -> str:
    return "" if len(names) == all_names else "".join(f" --worker {name}" for name in names)
