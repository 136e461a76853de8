"""A hub of models on this machine, as huggingface_hub asks it: one model, whose files a test holds back."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

from tests.harness.servers.embedded import HOST

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class ModelHub:
    """Serves the files of one model by its name."""

    def __init__(self, name: str, files: Mapping[str, bytes]) -> None:
        self.name, self.files = name, files
        #: How often each file was sent whole.
        self.sent: Counter[str] = Counter()
        #: Files of which the second half is not sent before the event is set.
        self.held: dict[str, threading.Event] = {}
        #: Set when the first half of a held file was sent.
        self.holding = threading.Event()
        self._server = ThreadingHTTPServer((HOST, 0), self._handler())
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for event in self.held.values():
            event.set()
        self._server.shutdown()
        self._server.server_close()

    def hold(self, file: str) -> threading.Event:
        """Send half of a file, and the rest when the returned event is set, if it is held still."""
        self.holding.clear()
        self.held[file] = threading.Event()
        return self.held[file]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self._answer(with_body=False)

            def do_GET(self) -> None:
                self._answer(with_body=True)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
                pass

            def _answer(self, *, with_body: bool) -> None:
                path = urlsplit(self.path).path
                if path.startswith(f"/api/models/{hub.name}/tree/"):
                    self._send(json.dumps([_entry(name, body) for name, body in hub.files.items()]).encode())
                elif path.startswith(f"/api/models/{hub.name}"):
                    siblings = [{"rfilename": name} for name in hub.files]
                    about = {"id": hub.name, "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}
                    self._send(json.dumps(about).encode())
                elif (file := path.removeprefix(f"/{hub.name}/resolve/{COMMIT}/")) in hub.files:
                    self._send_file(file, with_body=with_body)
                else:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "RepoNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def _send(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def _send_file(self, file: str, *, with_body: bool) -> None:
                body = hub.files[file]
                self.send_response(200)
                self.send_header("ETag", f'"{hashlib.sha1(body, usedforsecurity=False).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if not with_body:
                    return
                half = len(body) // 2
                self.wfile.write(body[:half])
                if event := hub.held.get(file):
                    self.wfile.flush()
                    hub.holding.set()
                    event.wait(60)
                    if file not in hub.held:
                        self.close_connection = True
                        return
                self.wfile.write(body[half:])
                hub.sent[file] += 1

        return Handler


def _entry(name: str, body: bytes) -> dict[str, object]:
    digest = hashlib.sha1(body, usedforsecurity=False).hexdigest()
    return {"type": "file", "path": name, "size": len(body), "oid": digest}
