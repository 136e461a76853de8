"""Requests that schemathesis makes from an OpenAPI document, valid and invalid ones, and what it checks of answers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.harness.servers.embedded import binary
from tests.harness.share import Share

#: Examples of each operation in the short suite.
SHORT_EXAMPLES = 3
#: One operation of so many, which the run's share chooses, gets each value at each place (schemathesis calls that
#: coverage): 150 requests to each, and with one of four still two thirds of the CPU time.
COVERAGE_SHARE = 12
ROOT = Path(__file__).parents[3]
#: A list that is too long may also be a body that is too long.
_REFUSALS = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422]


def run_schemathesis(
    document: dict[str, Any],
    url: str,
    folder: Path,
    *,
    examples: int,
    seed: int,
    share: Share,
    settings: str = "",
    more: Sequence[str] = (),
    stateful: bool = False,
    each_value: bool = False,
) -> None:
    """Send generated requests and fail on a server error, an undocumented answer or a rule that is not stated.

    A short run generates the same requests each time. With ``each_value``, all operations get each value at each place
    in it, not only those of the share.
    """
    is_short = examples <= SHORT_EXAMPLES
    if is_short:
        seed = 1
        settings += "" if each_value else _without_each_value(document, share)
    (folder / "openapi.json").write_text(json.dumps(document))
    (folder / "schemathesis.toml").write_text(
        f"[checks]\nnegative_data_rejection.expected-statuses = {_REFUSALS}\n{settings}"
    )
    command = [
        binary("schemathesis"), "run", "openapi.json", "--url", url, "--seed", str(seed), "--no-color",
        "--phases", f"examples,coverage,fuzzing{',stateful' * stateful}", "--max-examples", str(examples),
        "--continue-on-failure", "--generation-database", "none",
        # Its own check of valid requests knows statuses only; HEAD is GET without the body.
        "--exclude-checks", "positive_data_acceptance", "--exclude-method", "HEAD", *more,
    ]  # fmt: skip
    env = {
        "PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(ROOT),
        "SCHEMATHESIS_HOOKS": "tests.harness.openapi.hooks",
        # Tables of Unicode, which it would compute anew in an empty folder: several seconds of CPU time.
        "HYPOTHESIS_STORAGE_DIRECTORY": str(ROOT / ".hypothesis"),
    }  # fmt: skip
    found = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=500 + 20 * examples, check=False
    )  # fmt: skip
    assert found.returncode == 0, found.stdout[-8000:] + found.stderr[-2000:]


def _without_each_value(document: dict[str, Any], share: Share) -> str:
    """Return the settings that leave the phase of each value at each place to a share of the operations."""
    names = [
        f"{method.upper()} {path}"
        for path, methods in sorted(document["paths"].items())
        for method in sorted(methods)
        if method != "head"
    ]
    left_out = [name for number, name in enumerate(names) if not share.takes(number, COVERAGE_SHARE)]
    return f"[[operations]]\ninclude-name = {json.dumps(left_out)}\nphases.coverage.enabled = false\n"
