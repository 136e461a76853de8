"""A pipe to one TCP server that cuts connections after so many bytes, as it is told: a bucket on a bad line."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import deque
from typing import Self

from tests.harness.servers.embedded import HOST


class CuttingPipe:
    """Passes bytes on, both ways; ``cut_down`` and ``cut_up`` say how far the next requests that get there come."""

    def __init__(self) -> None:
        self._listener = socket.create_server((HOST, 0))
        self._upstream: tuple[str, int] = (HOST, 0)
        self._open: set[socket.socket] = set()
        self.cut_down: deque[int] = deque()
        self.cut_up: deque[int] = deque()
        #: First lines of requests, as they came.
        self.asked: list[str] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def to(self, url: str) -> str:
        """Lead to the server at ``url`` and give the address to use in its place."""
        host, _, port = url.removeprefix("http://").partition(":")
        self._upstream = (host, int(port))
        return f"http://{HOST}:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._upstream)
                self._open |= {client, server}
                passed = {"up": 0, "down": 0}
                for given in (("up", client, server, passed), ("down", server, client, passed)):
                    threading.Thread(target=self._pump, args=given, daemon=True).start()

    def _pump(self, way: str, source: socket.socket, sink: socket.socket, passed: dict[str, int]) -> None:
        cuts = self.cut_up if way == "up" else self.cut_down
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if way == "up" and data[:4] in (b"GET ", b"PUT "):
                    self.asked.append(data.decode("latin-1").partition("\r\n\r\n")[0])
                    passed.update(up=0, down=0)
                if cuts and passed[way] + len(data) > cuts[0]:
                    sink.sendall(data[: max(0, cuts.popleft() - passed[way])])
                    _reset(source)
                    break
                sink.sendall(data)
                passed[way] += len(data)
        for one in (source, sink):
            self._open.discard(one)
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def _reset(one: socket.socket) -> None:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
