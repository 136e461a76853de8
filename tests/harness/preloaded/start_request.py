"""A start that the preloaded process can do by a fork: which ones, and how they are sent to it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
#: Largest request. Linux takes 128 KiB for one variable, and as much for one message.
MAXIMUM_BYTES = 60_000
#: Programs that may be forked: nothing in their import depends on an environment variable.
PROGRAMS = frozenset(
    {
        "cli",
        "modal_workers.runtime.worker_process",
        "services.bucket_proxy",
        "services.dispatcher",
        "services.gateway",
        "services.notifier",
        "tests.harness.history.trimming_dispatcher",
        "tests.harness.preloaded.probe",
        "tests.harness.rules.dispatcher_process",
        "tests.harness.streams.killed_service",
    }
)
#: Of those, which start others: a program, or one of its commands.
_STARTERS = frozenset(
    {("cli", "demo"), ("cli", "up"), ("services.dispatcher",), ("tests.harness.preloaded.probe", "start")}
)
#: Variables that the interpreter reads when it starts, and that a fork can still follow.
_FOLLOWED = frozenset({"PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONSAFEPATH", "PYTHONUNBUFFERED"})
#: Variables that a library reads when it is imported: aiohttp makes a TLS context.
_READ_BY_IMPORTS = ("SSL_CERT_FILE", "OPENSSL_CONF")


@dataclass(frozen=True)
class StartRequest:
    """A program, its arguments and what it has from its parent, besides open files."""

    module: str
    arguments: list[str]
    environment: dict[str, str]
    folder: str
    new_session: bool
    #: Numbers that the open files have in the program, after standard input, output and error.
    descriptors: list[int]
    #: Process whose end is the program's end too, as for the children of ``saccade up``; 0: none.
    ends_with: int = 0

    @property
    def starts_programs(self) -> bool:
        """Return whether the program starts others of this project, and so has a preloaded process of its own."""
        return (self.module, *self.arguments[:1]) in _STARTERS or (self.module,) in _STARTERS

    def encoded(self) -> bytes:
        """Return it as it is sent."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decoded(cls, message: bytes) -> StartRequest:
        """Read what ``encoded`` returned."""
        return cls(**json.loads(message))


def module_of(
    command: Sequence[object],
    environment: Mapping[str, str],
    folder: str,
    own_environment: Mapping[str, str],
    root: Path = ROOT,
) -> str | None:
    """Return the module that a command runs, if a fork of the preloaded process would be the same; None otherwise.

    ``own_environment`` is that of the preloaded process, and below ``root`` are the programs that it starts.
    """
    if len(command) < 3 or command[0] != sys.executable or command[1] != "-m" or command[2] not in PROGRAMS:
        return None
    if any(name.startswith("PYTHON") and name not in _FOLLOWED for name in environment):
        return None
    if any(environment.get(name) != own_environment.get(name) for name in _READ_BY_IMPORTS):
        return None
    is_same = _finds_the_same_modules(
        environment.get("PYTHONPATH", ""), None if "PYTHONSAFEPATH" in environment else folder, root
    )
    return str(command[2]) if is_same else None


def _finds_the_same_modules(paths: str, folder: str | None, root: Path) -> bool:
    """Return whether imports find what was preloaded: the folder they look into first is ours, or has no modules."""
    first = paths.partition(os.pathsep)[0]
    if folder is not None and Path(folder).resolve() == root:
        return True
    hides = folder is not None and any(is_module(path) for path in Path(folder).glob("*"))
    return bool(first) and Path(first).resolve() == root and not hides


def is_module(path: Path) -> bool:
    """Return whether an import could find a file or folder instead of what was preloaded."""
    return path.suffix in (".py", ".so") or path.name in sys.modules or (ROOT / path.name).is_dir()
