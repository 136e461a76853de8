"""Processes of containers, forked by one process of the loopback that has imported Modal's runtime already."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.harness.preloaded import popen
from tests.harness.preloaded.start_request import MAXIMUM_BYTES
from tests.harness.servers.loopback_tls import ONE_AUTHORITY

_FIRST_PROCESS = Path(__file__).with_name("first_process.py")
_LINE_BYTES = 1 << 24
_END_S = 10.0


@dataclass
class ContainerProcesses:
    """First process of a container, and the output of all its processes."""

    pid: int
    output: asyncio.StreamReader
    _report: asyncio.StreamReader
    _writer: asyncio.StreamWriter
    _ended: bool = False

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the first process, unless it has ended."""
        if not self._ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def wait(self) -> int:
        """Wait until all processes have ended; return the program's exit code."""
        line = await self._report.readline()
        self._ended = True
        self._writer.close()
        return int(line) if line else 128 + signal.SIGKILL


class Starter:
    """Process that forks the programs of all containers; it starts with the first of them."""

    def __init__(self, python: Path, home: Path) -> None:
        """Prepare a starter.

        Args:
            python: Interpreter of containers.
            home: Folder that exists, for what the packages look up when they are imported.
        """
        self._python, self._home = python, home
        self._process: asyncio.subprocess.Process | None = None
        self._requests: socket.socket | None = None
        self._starting = asyncio.Lock()

    async def start(self, folder: Path) -> ContainerProcesses:
        """Start the program of the container in a folder, which has its variables in `start.json`.

        Raises:
            RuntimeError: The starter has ended.
        """
        async with self._starting:
            if self._requests is None:
                self._requests = await self._open()
        ours, theirs = socket.socketpair()
        reading, writing = os.pipe()
        try:
            socket.send_fds(self._requests, [str(folder).encode()], [theirs.fileno(), writing])
        finally:
            theirs.close()
            os.close(writing)
        ours.setblocking(False)
        report, writer = await asyncio.open_connection(sock=ours)
        output = asyncio.StreamReader(limit=_LINE_BYTES)
        protocol = asyncio.StreamReaderProtocol(output)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(reading, "rb"))
        line = await report.readline()
        if not line:
            raise RuntimeError("the starter of containers has ended")
        return ContainerProcesses(int(line), output, report, writer)

    async def stop(self) -> None:
        """End the process, which waits for no container."""
        if self._requests:
            self._requests.close()
        if self._process:
            try:
                async with asyncio.timeout(_END_S):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()

    async def _open(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        room = "x" * MAXIMUM_BYTES  # for the arguments and variables of workers
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                str(self._python),
                str(_FIRST_PROCESS),
                str(theirs.fileno()),
                "forks" if popen.is_installed() else "starts",
                room,
                env=common_variables(self._python) | {"HOME": str(self._home), "ROOM": room},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        return ours


def common_variables(python: Path) -> Mapping[str, str]:
    """Return the variables that are the same in all containers, and which an interpreter reads at its start."""
    path = os.environ.get("PATH", "")  # noqa: TID251
    return {
        "LANG": "C.UTF-8",
        "PATH": f"{python.parent}{os.pathsep}{path}",
        "PYTHONUNBUFFERED": "1",
        **ONE_AUTHORITY,
        "MODAL_IS_REMOTE": "1",
        "MODAL_CLOUD_PROVIDER": "CLOUD_PROVIDER_LOOPBACK",
        "MODAL_REGION": "loopback",
    }
