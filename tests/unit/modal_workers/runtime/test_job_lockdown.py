"""A job's thread, what it starts, and decoders in it: nothing outside is opened, no connection made, no secret left."""

from __future__ import annotations

import contextlib
import contextvars
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import av
import av.error
import pytest

from modal_workers.footage.kernel_rules import landlock_version, libc
from modal_workers.runtime import job_lockdown
from modal_workers.runtime.job_lockdown import run_locked, without
from tests.harness.vision.hostile_media import CANARY_PX, clip

ROOT = Path(__file__).parents[4]
library = libc()
on_linux = pytest.mark.skipif(library is None, reason="the kernel is not Linux")
with_landlock = pytest.mark.skipif(library is None or landlock_version(library) < 1, reason="no Landlock")


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def refused(act: Callable[[], object]) -> bool:
    try:
        act()
    except PermissionError:
        return True
    return False


def in_child(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@with_landlock
def test_a_job_opens_its_folder_and_the_systems_and_no_other(tmp_path: Path, run_folder: Path) -> None:
    secret, given = tmp_path / "secret", tmp_path / "inputs"
    secret.write_text("canary")
    given.mkdir()
    (given / "video-0").write_text("bytes")

    def job() -> dict[str, bool]:
        return {
            "read": refused(secret.read_text),
            "write": refused(lambda: secret.write_text("x")),
            "create": refused((tmp_path / "other").mkdir),
            "list": refused(lambda: list(tmp_path.iterdir())),
            "change an input": refused(lambda: (given / "video-0").write_text("x")),
            "another process": refused(Path(f"/proc/{os.getppid()}/environ").read_bytes),
            "child": "Permission" in in_child("import sys; open(sys.argv[1])", secret).stderr,
            "own": not refused(lambda: (run_folder / "a").write_text((given / "video-0").read_text())),
            "system": not refused(Path("/etc/passwd").read_text),
            "code": in_child("import contracts.job").returncode == 0,
        }

    done = run_locked(job, readable=(given,), writable=(run_folder,), files=True)
    assert [name for name, as_it_should in done.items() if not as_it_should] == []
    assert secret.read_text() == "canary", "and this thread reads it as before"


def test_a_folder_is_read_without_what_is_hidden_in_it(tmp_path: Path) -> None:
    """As /etc without /etc/saccade, and without what only some users may read."""
    for name in ("etc/fonts", "etc/saccade", "etc/ssl/certs", "etc/private", "etc/deep/saccade", "etc/deep/other"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "etc/saccade/saccade.env").write_text("canary")
    (tmp_path / "etc/passwd").write_text("root")
    (tmp_path / "etc/link.env").symlink_to(tmp_path / "etc/saccade/saccade.env")
    (tmp_path / "etc/private").chmod(0o750)
    (tmp_path / "etc/key").write_text("canary")
    (tmp_path / "etc/key").chmod(0o640)
    hidden = (tmp_path / "etc/saccade", tmp_path / "etc/deep/saccade")
    found = {str(path.relative_to(tmp_path)) for path in without(tmp_path / "etc", hidden)}
    assert found == {"etc/fonts", "etc/ssl", "etc/passwd", "etc/deep/other"}
    assert list(without(tmp_path / "etc/fonts", hidden)) == [tmp_path / "etc/fonts"]
    assert list(without(tmp_path / "etc/saccade", hidden)) == []
    assert list(without(tmp_path / "missing", hidden)) == [tmp_path / "missing"]


def test_an_entry_that_cannot_be_looked_at_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {f"entry{number}" for number in range(10)}
    for name in names:
        (tmp_path / name).mkdir()
    look = Path.stat

    def refusing(path: Path, **options: Any) -> os.stat_result:
        if path.name == "entry4":  # as a mount of another user refuses
            raise PermissionError(path)
        return look(path, **options)

    monkeypatch.setattr(Path, "stat", refusing)
    assert {path.name for path in without(tmp_path, [tmp_path / "hidden"])} == names - {"entry4"}


@with_landlock
def test_a_job_reads_no_settings_of_services(tmp_path: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders of a host in place of the system's own: what is beside the settings is read, they are not."""
    etc = tmp_path / "etc"
    for name in ("saccade/saccade.env", "fonts/fonts.conf"):
        (etc / name).parent.mkdir(parents=True)
        (etc / name).write_text("canary")
    monkeypatch.setattr(job_lockdown, "_SYSTEM", (*job_lockdown._SYSTEM, etc))
    monkeypatch.setattr(job_lockdown, "_OWN", (etc / "saccade",))

    def job() -> list[bool]:
        return [refused((etc / name).read_text) for name in ("saccade/saccade.env", "fonts/fonts.conf")]

    assert run_locked(job, readable=(), writable=(run_folder,), files=True) == [True, False]


@on_linux
def test_a_job_connects_to_nothing(run_folder: Path, server: socket.socket) -> None:
    port = server.getsockname()[1]
    families = (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
    connect = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])))"

    def job() -> list[bool]:
        for own in socket.socketpair():  # its own processes may talk to each other
            own.close()
        return [
            *(refused(partial(socket.socket, family, socket.SOCK_DGRAM)) for family in families),
            refused(lambda: socket.create_connection(("127.0.0.1", port))),
            "Operation not permitted" in in_child(connect, port).stderr,
        ]

    assert run_locked(job, readable=(), writable=(run_folder,), files=False) == [True] * 5
    with pytest.raises(BlockingIOError):
        server.accept()
    socket.create_connection(("127.0.0.1", port)).close()
    server.accept()[0].close()


@with_landlock
def test_a_decoder_without_pinned_formats_opens_no_file_and_no_address(
    tmp_path: Path, run_folder: Path, server: socket.socket
) -> None:
    """As if an opening had been forgotten: a list names a clip outside, and an address."""
    canary = tmp_path / "canary.mp4"
    canary.write_bytes(clip("mp4", size=CANARY_PX))
    addresses = (str(canary), f"http://127.0.0.1:{server.getsockname()[1]}/a.ts")
    for number, address in enumerate(addresses):
        (run_folder / f"{number}.ffconcat").write_text(f"ffconcat version 1.0\nfile '{address}'\n")
    options = {"safe": "0", "protocol_whitelist": "file,http,tcp"}

    def sizes(path: Path) -> list[tuple[int, int]]:
        with contextlib.suppress(av.error.FFmpegError), av.open(str(path), options=options, timeout=5) as container:
            return [(frame.width, frame.height) for frame in container.decode(video=0)]
        return []

    assert CANARY_PX in sizes(run_folder / "0.ffconcat"), "such a decoder opens it in a thread that is not locked"
    for number in range(len(addresses)):
        path = run_folder / f"{number}.ffconcat"
        assert run_locked(partial(sizes, path), readable=(), writable=(run_folder,), files=True) == []
    with pytest.raises(BlockingIOError):
        server.accept()


def test_what_a_job_raises_and_its_context_pass_through(run_folder: Path) -> None:
    name = contextvars.ContextVar("name", default="")
    name.set("of the caller")

    def job() -> None:
        raise SystemExit(contextvars.copy_context()[name])

    with pytest.raises(SystemExit, match="of the caller"):
        run_locked(job, readable=(), writable=(run_folder,), files=True)


def test_a_worker_has_no_secrets_in_its_environment_once_it_has_read_them() -> None:
    code = (
        "import subprocess, sys; from pathlib import Path; from modal_workers.runtime.settings import erase_secrets\n"
        "erase_secrets(); subprocess.run(['env'], check=True)\n"
        "own = Path('/proc/self/environ'); print(own.read_bytes() if own.exists() else b'')"
    )
    secrets = {
        "S3_SECRET_ACCESS_KEY": "canary1", "NATS_PASSWORD": "canary2", "NATS_CREDENTIALS": "canary3",
        "INGEST_TOKEN": "canary4", "NATS_URL": "nats://user:canary5@host",
    }  # fmt: skip
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.defpath, "S3_BUCKET": "kept", "SACCADE_RUN": "the mark"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment | secrets, capture_output=True, text=True, check=True, timeout=300)
    assert "canary" not in done.stdout
    assert done.stdout.count("S3_BUCKET=kept") == done.stdout.count("SACCADE_RUN=the mark") >= 1
