"""The server of a demo: the one that was named, or one that ends with the demo."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from cli.embedded.attached_system import attached_system
from cli.embedded.ports import is_free
from cli.failure import Failure
from cli.settings import DEFAULT_PORT


@contextlib.contextmanager
def demo_server(url: str | None, data: Path) -> Iterator[tuple[str, bool]]:
    """Use the server that was named, or start one, and tell which it was.

    Raises:
        Failure: it did not start.
    """
    if url:
        yield url, False
        return
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(attached_system(data, DEFAULT_PORT if is_free(DEFAULT_PORT) else 0))
        except Failure as failure:
            if failure.code == "already_running":
                failure.hint = "Use that one: add --url with its address; or stop it, or add --data."
            raise
        yield server, True
