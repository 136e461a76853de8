"""The data folder of an embedded system: who holds it, which version wrote it, its secrets, and where things lie."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from cli.failure import Failure
from contracts.limits import MIB

#: Written into the folder; a folder of a newer version is left alone.
FORMAT: Final = 1
#: Less free space than this and nothing is started: a full disk loses work, a refused start does not.
FREE_BYTES: Final = 200 * MIB
_READ_ONLY: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


@dataclass(frozen=True)
class Secrets:
    """Credentials that only this folder's processes know."""

    nats_user: str
    nats_password: str
    s3_access_key_id: str
    s3_secret_access_key: str
    ticket_key: str
    webhook_key: str
    sender_password: str

    @classmethod
    def fresh(cls) -> Self:
        """Draw new ones."""
        drawn = (secrets.token_hex(24), secrets.token_hex(10), *(secrets.token_hex(24) for _ in range(4)))
        return cls("saccade", *drawn)


class DataFolder:
    """A data folder that this process holds until ``release``; the lock dies with the process."""

    def __init__(self, path: Path) -> None:
        """Take the folder, and make it where it is missing.

        Raises:
            Failure: another system runs on it, it cannot be written, the disk is full, or a newer version wrote it.
        """
        try:
            # The one true path: processes that use the folder are found by it.
            self.path = path.resolve()
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._cannot_write(error) from error
        try:
            self._take()
            self._check_space()
            self._check_version()
            self.secrets = self._load_secrets()
            for name in ("logs", "nats", "bucket", "gateway", "dispatcher", "notifier"):
                (self.path / name).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            self.release()
            raise self._cannot_write(error) from error
        except Failure:
            self.release()
            raise

    def log(self, name: str) -> Path:
        """Name the log file of a child."""
        return self.path / "logs" / f"{name}.log"

    def announce(self, url: str) -> None:
        """Say in the lock file where this system answers, for whoever starts a second one."""
        text = json.dumps({"pid": os.getpid(), "url": url}).encode()
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, text, 0)

    def ports(self) -> dict[str, int]:
        """Read the ports that this folder's servers had last time."""
        try:
            ports = json.loads((self.path / "ports.json").read_text())
            return {str(name): int(port) for name, port in ports.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def keep_ports(self, ports: dict[str, int]) -> None:
        """Remember the ports, so that a worker that outlived a crash finds its bus again."""
        (self.path / "ports.json").write_text(json.dumps(ports))

    def free_bytes(self) -> int:
        """Tell how much room there is."""
        return shutil.disk_usage(self.path).free

    def release(self) -> None:
        """Let the folder go."""
        os.close(self._lock)

    def _take(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = self._holder()
            where = f" at {holder['url']}" if "url" in holder else ""
            who = f" (process {holder['pid']})" if "pid" in holder else ""
            raise Failure(
                f"Saccade already runs on {self.path}{where}{who}.",
                code="already_running",
                hint="Use that one, stop it with Ctrl-C, or start this one with --data on another folder.",
            ) from error
        os.ftruncate(self._lock, 0)

    def _holder(self) -> dict[str, Any]:
        try:
            holder = json.loads(os.pread(self._lock, 4096, 0))
        except ValueError:
            return {}
        return holder if isinstance(holder, dict) else {}

    def _check_space(self) -> None:
        free = self.free_bytes()
        if free < FREE_BYTES:
            raise Failure(
                f"Only {free // MIB} MB are free where {self.path} lies; Saccade wants {FREE_BYTES // MIB} MB.",
                code="folder_full",
                hint="Free some space, or use --data on another disk.",
            )

    def _check_version(self) -> None:
        file = self.path / "version"
        if not file.exists():
            file.write_text(f"{FORMAT}\n")
        text = file.read_text().strip()
        if not text.isdigit():
            raise Failure(
                f"{file} does not hold a version: this is not a data folder of Saccade.",
                code="folder_unknown",
                hint="Use --data on another folder.",
            )
        if int(text) > FORMAT:
            raise Failure(
                f"{self.path} was written by a newer Saccade (format {text}; this one knows {FORMAT}).",
                code="folder_newer",
                hint="Upgrade saccade, or use --data on another folder.",
            )

    def _load_secrets(self) -> Secrets:
        file = self.path / "secrets.json"
        fresh = asdict(Secrets.fresh())
        try:
            known = json.loads(file.read_text()) if file.exists() else {}
            if fresh.keys() - known.keys():  # a new folder, or one from before there was such a secret
                part = self.path / "secrets.part"
                part.unlink(missing_ok=True)
                with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
                    json.dump(fresh | known, out)
                part.replace(file)
            return Secrets(**(fresh | known))
        except (ValueError, TypeError, AttributeError) as error:
            raise Failure(
                f"{file} cannot be read.", code="folder_unknown", hint="Delete that file; new secrets are drawn."
            ) from error

    def _cannot_write(self, error: OSError) -> Failure:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return Failure(
                f"There is no room left to write {self.path}.",
                code="folder_full",
                hint="Free some space, or use --data on another disk.",
            )
        reason = "it is read-only" if error.errno in _READ_ONLY else (error.strerror or str(error)).lower()
        return Failure(
            f"The data folder {self.path} cannot be written: {reason}.",
            code="folder_not_writable",
            hint="Use --data (or SACCADE_DATA) on a folder that you may write.",
        )
