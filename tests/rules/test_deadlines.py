"""Every blocking wait in tests has a deadline: a test that hangs in a thread or a child is freed by no timeout."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.rules.tree import parsed, python_files

#: Polled before, or made to read with a deadline itself.
GUARDED = {
    "tests/harness/servers/process_output.py": "pipe.readline()",
    "tests/harness/sessions/skewed_senders.py": "recv()",
}

#: Calls that block a thread until something else acts, unless they are given a timeout.
BLOCKING = {"wait", "join", "get", "communicate", "recv", "readline"}
#: Calls that take a coroutine: what is passed to them is awaited, and pytest's timeout ends it.
TAKE_COROUTINES = {"create_task", "ensure_future", "gather", "wait_for", "start_soon"}
#: Run a child to its end.
RUN = {"run", "call", "check_call", "check_output"}


def _calls(tree: ast.AST, awaited: bool = False) -> Iterator[tuple[ast.Call, bool]]:
    """Yield every call, and whether it is awaited here or handed to something that awaits it."""
    for node in ast.iter_child_nodes(tree):
        inside = awaited and isinstance(node, ast.expr | ast.keyword | ast.comprehension)
        if isinstance(node, ast.Await):
            yield from _calls(node, awaited=True)
        elif isinstance(node, ast.Call):
            yield node, inside
            yield from _calls(node, awaited=inside or _name(node) in TAKE_COROUTINES)
        else:
            yield from _calls(node, awaited=inside)


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _has_deadline(call: ast.Call) -> bool:
    return bool(call.args) or any(word.arg is None or "timeout" in word.arg for word in call.keywords)


def _waits_for_ever(call: ast.Call, awaited: bool) -> bool:
    name = _name(call)
    if name == "to_thread" and call.args:
        target = call.args[0]
        return (
            isinstance(target, ast.Attribute) and target.attr in BLOCKING and len(call.args) + len(call.keywords) == 1
        )
    if not isinstance(call.func, ast.Attribute):
        return False
    if ast.unparse(call.func.value) == "subprocess" and name in RUN:
        return not any(word.arg in (None, "timeout") for word in call.keywords)
    return name in BLOCKING and not awaited and not _has_deadline(call)


def test_a_blocking_wait_has_a_deadline() -> None:
    found = [
        f"{path}:{call.lineno} {ast.unparse(call)[:80]}"
        for path in python_files("tests")
        for call, awaited in _calls(parsed(path))
        if _waits_for_ever(call, awaited) and not ast.unparse(call).endswith(GUARDED.get(path, " "))
    ]
    assert found == [], "\n".join(found)
