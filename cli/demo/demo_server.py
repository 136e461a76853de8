"""Server of a demo: a running one, or one that ends with the demo."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cli.connection import url_option
from cli.embedded.attached_system import attached_system
from cli.embedded.data_folder import running_url
from cli.embedded.ports import is_free
from cli.failure import Failure
from cli.output import print_line
from cli.settings import DEFAULT_PORT


def demo_url_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--url`` of a demo, which starts a server where none is named."""
    return url_option(command, "Address of a running server. [default: start one]")


@contextlib.contextmanager
def _started(data: Path) -> Iterator[str]:
    """Run a system on the usual port, on a free one if that is taken, also at the last moment."""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(attached_system(data, DEFAULT_PORT if is_free(DEFAULT_PORT) else 0))
        except Failure as failure:
            if failure.code != "port_taken":
                raise
            server = stack.enter_context(attached_system(data, 0))
        yield server


@contextlib.contextmanager
def demo_server(url: str | None, data: Path) -> Iterator[tuple[str, bool]]:
    """Yield the address of the server, and whether it was started for this demo.

    Without ``url`` it is the system that runs on the same data folder, else a new one, on another port if needed.

    Raises:
        Failure: the server did not start.
    """
    if used := url or running_url(data):
        yield used, False
        return
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(_started(data))
        except Failure as failure:
            if failure.code == "already_running":
                failure.hint = (
                    "It belongs to another demo, which stops it: wait for its end, or choose another folder: "
                    "make demo ARGS='--data FOLDER'"
                )
            raise
        yield server, True


def wait_for_interrupt(message: str) -> None:
    """Print a message and wait until Ctrl-C: what a demo started keeps running."""
    print_line(f"\n{message}")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)
