"""Generate the blocking client from the asyncio client: ``python clients/python/generate_sync.py``.

The asyncio modules are the source. ``await`` of an internal coroutine becomes ``run_blocking(...)`` (see
saccade_client/transport.py), ``await`` of own methods becomes a plain call, and names lose their ``Async``.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).parent / "saccade_client"
#: Source and generated module.
MODULES: Final = {
    "async_budgets.py": "budgets.py",
    "async_erasures.py": "erasures.py",
    "async_client.py": "client.py",
    "async_dead_letters.py": "dead_letters.py",
    "async_job_plans.py": "job_plans.py",
    "async_replays.py": "replays.py",
    "async_rules.py": "rules.py",
    "async_sessions.py": "sessions.py",
    "async_webhooks.py": "webhooks.py",
}
_HEADER: Final = "# Generated from {source} by clients/python/generate_sync.py; do not edit.\n"
#: A method whose definition carries this comment has no blocking counterpart.
_ASYNC_ONLY: Final = "# asyncio only"
#: Texts, replaced in this order.
_TEXTS: Final = (
    ("for asyncio programs", "for blocking programs"),
    (
        "Files are read, written and hashed in threads.",
        "Several threads may share it; an iterator belongs to one thread.",
    ),
)
_NAMES: Final = (
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\b__a(enter|exit)__\b", r"__\1__"),
    (r"\b__anext__\b", "__next__"),
    (r"import (.*)\biterate_async\b", r"import \1iterate, run_blocking"),
    (r"\biterate_async\b", "iterate"),
    (r"\bAsyncTransport\b", "BlockingTransport"),
    (r"\bAsync([A-Z]\w*)", r"\1"),
    (r"\bsaccade_client\.async_(\w+)", r"saccade_client.\1"),
)
#: Objects of the generated modules, whose methods block.
_BLOCKING: Final = ("self.close", "self._client.")


def _replacement(call: str) -> str:
    """Return the blocking form of an awaited call."""
    if match := re.fullmatch(r"(.*)\.__anext__\(\)", call):
        return f"next({match[1]})"
    if match := re.fullmatch(r"(.*)\.aclose\(\)", call):
        return f"{match[1]}.close()"
    return call if call.startswith(_BLOCKING) else f"run_blocking({call})"


def _edits(text: str) -> list[tuple[int, int, str]]:
    """Return the replacements of awaits and of methods that exist for asyncio only, by character range."""
    lines = text.splitlines(keepends=True)
    starts = [sum(map(len, lines[:number])) for number in range(len(lines) + 1)]
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _ASYNC_ONLY in lines[node.lineno - 1]:
            found.append((starts[node.lineno - 1], starts[node.end_lineno or 0], ""))
        elif isinstance(node, ast.Await):
            begin = starts[node.lineno - 1] + node.col_offset
            end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
            call = _replacement(text[begin:end].removeprefix("await "))
            # Parentheses around an await are needless around a call.
            if text[begin - 1] == "(" and text[end] == ")" and not re.match(r"\w", text[begin - 2]):
                begin, end = begin - 1, end + 1
            found.append((begin, end, call))
    return sorted(found, reverse=True)


def _ruff(text: str, name: str, *arguments: str) -> str:
    command = [sys.executable, "-m", "ruff", *arguments, "--quiet", "--stdin-filename", str(PACKAGE / name), "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def generate(source: str) -> str:
    """Return the text of the module that is generated from the module ``source``."""
    text = (PACKAGE / source).read_text()
    for begin, end, replacement in _edits(text):
        text = text[:begin] + replacement + text[end:]
    for pattern, replacement in (*((re.escape(old), new) for old, new in _TEXTS), *_NAMES):
        text = re.sub(pattern, replacement, text)
    if "run_blocking" in text and not re.search(r"import .*\brun_blocking\b", text):
        first = "from saccade_client."
        text = text.replace(first, f"from saccade_client.transport import run_blocking\n{first}", 1)
    text = _HEADER.format(source=source) + text
    text = _ruff(text, MODULES[source], "check", "--fix", "--exit-zero", "--select", "F401,I001")
    return _ruff(text, MODULES[source], "format")


def main() -> None:
    """Write the generated modules."""
    for source, target in MODULES.items():
        (PACKAGE / target).write_text(generate(source))


if __name__ == "__main__":
    main()
