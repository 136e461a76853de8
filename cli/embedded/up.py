"""``saccade up``: run the embedded system until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import click

from cli.browser import show_page
from cli.embedded.programs import install_hint, unavailable_workloads
from cli.embedded.system import EmbeddedSystem
from cli.embedded.workers_on_modal import WorkersOnModal
from cli.failure import INTERRUPTED
from cli.output import display_path, print_json, print_line, print_note
from cli.settings import DEFAULT_PORT, CommandSettings, ModalClientSettings
from kit.stop_deadline import StopDeadline, prepare_stop
from kit.tasks import end

#: Time for a stop. The services, the workers and the servers get 5 s of it together, one after the other; on a busy
#: machine the rest takes its time.
_STOP_S: Final = 30.0


def catch_signals(system: EmbeddedSystem) -> tuple[asyncio.Event, StopDeadline]:
    """Return an event that the first SIGINT, SIGTERM or SIGHUP sets; a second signal kills everything at once.

    Everything is killed as well when the stop has not ended ``_STOP_S`` later, with a note of what was waited for.
    SIGINT and SIGTERM are handled even where the parent ignores them; an ignored SIGHUP (nohup) stays ignored.
    """
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            system.kill()
            os._exit(INTERRUPTED)
        stop.set()

    def say(sentence: str, stacks: list[str]) -> None:
        print_note("\n  ".join([f"Saccade is killed: {sentence}.", *stacks]))

    handled = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        handled.append(signal.SIGHUP)
    deadline = StopDeadline(_STOP_S, say, system.kill)
    prepare_stop(deadline, handled, on_signal)
    return stop, deadline


async def start_unless(stop: asyncio.Event, system: EmbeddedSystem) -> bool:
    """Start the system unless ``stop`` is set before; return whether it started.

    Raises:
        Failure: a child does not become ready.
    """
    starting = asyncio.create_task(system.start())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if starting.done():
        starting.result()
        return True
    await end(starting)
    return False


def stop_with_input(stop: asyncio.Event, deadline: StopDeadline) -> None:
    """Set ``stop`` when standard input ends: the command that started us has ended or asks us to stop."""

    def on_input() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            loop.remove_reader(sys.stdin.fileno())
            deadline.begin()
            stop.set()

    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), on_input)


async def _run(system: EmbeddedSystem, *, as_json: bool, attached: bool) -> None:
    stop, deadline = catch_signals(system)
    if attached:
        stop_with_input(stop, deadline)
    try:
        if await start_unless(stop, system):
            unavailable = [] if system.on_modal else unavailable_workloads()
            if as_json:
                ready: dict[str, Any] = {"event": "ready", "url": system.url, "data": str(system.data)}
                ready |= {"window": system.window.model_dump(mode="json")} if system.window else {}
                print_json(ready | {"processes": system.process_ids(), "unavailable": unavailable})
            else:
                console = f"{system.url}/console"
                print_line(f"Saccade is ready: open {console} in a browser (API reference: {system.url}/docs)")
                if window := system.window:
                    of = f"{window.events} events of {window.file}, as tenant {window.tenant}"
                    print_line(f"It shows {of}; nothing is worked on, sent or changed. Press Ctrl-C to stop.")
                else:
                    print_line(f"Data is in {display_path(system.data)}. Press Ctrl-C to stop.")
                if unavailable and not system.window:
                    print_line(f"Not installed: {', '.join(unavailable)}. {install_hint().replace('{extra}', 'all')}")
                if system.on_modal:
                    print_line(
                        "Workers run on Modal and continue there when Saccade stops; cancel the jobs that should not."
                    )
                if sys.stdout.isatty():
                    show_page(console, opened=None)
            await stop.wait()
    finally:
        deadline.begin()  # a start that has failed stops, too
        await system.stop()
    if as_json:
        print_json({"event": "stopped"})
    else:
        print_line("Stopped." if system.window else "Stopped. The data is kept.")


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port of the server; 0 for any free port.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of this machine to listen on.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder for all data. [default: ./.saccade]")
@click.option(
    "--executor",
    type=click.Choice(["local", "modal"]),
    default="local",
    show_default=True,
    help="Where workers run; for modal see docs/modal.md.",
)
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Show the events of a file of `saccade events export`; nothing is worked on, sent or changed.",
)
@click.option("--tenant", help="With --from: tenant whose jobs are shown. [default: the one with most events]")
@click.option("--attached", is_flag=True, hidden=True, help="Stop when standard input ends.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value per line.")
def up(
    *,
    port: int,
    host: str,
    data: Path | None,
    executor: str,
    source: Path | None,
    tenant: str | None,
    attached: bool,
    as_json: bool,
) -> None:
    """Run Saccade on this machine until Ctrl-C."""
    if tenant and not source:
        raise click.UsageError("--tenant chooses among those of a file: it needs --from.")

    def report(text: str) -> None:
        if as_json:
            print_json({"event": "note", "message": text})
        else:
            print_note(text)

    modal = WorkersOnModal.from_environment(CommandSettings(), ModalClientSettings()) if executor == "modal" else None
    with _imported(source, data, tenant) if source else nullcontext(data or CommandSettings().data) as folder:
        system = EmbeddedSystem(folder, host, port, report, modal, attached=attached)
        asyncio.run(_run(system, as_json=as_json, attached=attached))


@contextmanager
def _imported(source: Path, data: Path | None, tenant: str | None) -> Iterator[Path]:
    """Import a file into a new folder and yield that; a temporary one without ``data``.

    Raises:
        Failure: the file is damaged, or the folder is not new.
    """
    from cli.history.import_window import import_file  # noqa: PLC0415 - few start from a file

    with (
        tempfile.TemporaryDirectory(prefix="saccade-", ignore_cleanup_errors=True)
        if data is None
        else nullcontext() as temporary
    ):
        folder = data or Path(str(temporary)) / "window"
        import_file(source, folder, tenant)
        yield folder
