"""``saccade up``: run the embedded system until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import click

from cli.embedded.programs import install_hint, unavailable_workloads
from cli.embedded.system import EmbeddedSystem
from cli.embedded.workers_on_modal import WorkersOnModal
from cli.failure import INTERRUPTED
from cli.output import display_path, print_json, print_line, print_note
from cli.settings import DEFAULT_PORT, CommandSettings, ModalClientSettings


def catch_signals(system: EmbeddedSystem) -> asyncio.Event:
    """Return an event that the first SIGINT, SIGTERM or SIGHUP sets; a second signal kills everything at once.

    SIGINT and SIGTERM are handled even where the parent ignores them; an ignored SIGHUP (nohup) stays ignored.
    """
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            system.kill()
            os._exit(INTERRUPTED)
        stop.set()

    loop = asyncio.get_running_loop()
    handled = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        handled.append(signal.SIGHUP)
    for number in handled:
        loop.add_signal_handler(number, on_signal)
    return stop


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
    starting.cancel()
    await asyncio.wait({starting})
    return False


def stop_with_input(stop: asyncio.Event) -> None:
    """Set ``stop`` when standard input ends: the command that started us has ended or asks us to stop."""

    def on_input() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            loop.remove_reader(sys.stdin.fileno())
            stop.set()

    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), on_input)


async def _run(system: EmbeddedSystem, *, as_json: bool, attached: bool) -> None:
    stop = catch_signals(system)
    if attached:
        stop_with_input(stop)
    try:
        if await start_unless(stop, system):
            unavailable = [] if system.on_modal else unavailable_workloads()
            if as_json:
                ready = {"event": "ready", "url": system.url, "data": str(system.data)}
                print_json(ready | {"processes": system.process_ids(), "unavailable": unavailable})
            else:
                print_line(f"Saccade is ready at {system.url} (API reference: {system.url}/docs)")
                print_line(f"Data is in {display_path(system.data)}. Press Ctrl-C to stop.")
                if unavailable:
                    print_line(f"Not installed: {', '.join(unavailable)}. {install_hint().replace('{extra}', 'all')}")
                if system.on_modal:
                    print_line(
                        "Workers run on Modal and continue there when Saccade stops; cancel the jobs that should not."
                    )
            await stop.wait()
    finally:
        await system.stop()
    if as_json:
        print_json({"event": "stopped"})
    else:
        print_line("Stopped. The data is kept.")


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
@click.option("--attached", is_flag=True, hidden=True, help="Stop when standard input ends.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value per line.")
def up(*, port: int, host: str, data: Path | None, executor: str, attached: bool, as_json: bool) -> None:
    """Run Saccade on this machine until Ctrl-C."""

    def report(text: str) -> None:
        if as_json:
            print_json({"event": "note", "message": text})
        else:
            print_note(text)

    modal = WorkersOnModal.from_environment(CommandSettings(), ModalClientSettings()) if executor == "modal" else None
    system = EmbeddedSystem(data or CommandSettings().data, host, port, report, modal, attached=attached)
    asyncio.run(_run(system, as_json=as_json, attached=attached))
