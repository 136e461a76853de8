"""File of NATS's users where it checks passwords: Saccade's own, users' services and readers of sandboxes."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from contracts.bus_grant import BusGrant
from contracts.commands import EVERY_COMMAND, OPERATOR_INBOX, OPERATOR_SUBJECTS
from contracts.sandbox import EVERY_COPY, WRITER_INBOX, WRITER_SUBJECTS

#: What services and workers may not publish to: commands are the operators', copies in sandboxes the replays'.
DENIED_TO_SERVICES: Final = (EVERY_COMMAND, EVERY_COPY)
_SERVICE_RIGHTS: Final = f"{{ publish: {{ deny: {json.dumps(DENIED_TO_SERVICES)} }} }}"
_OPERATOR_RIGHTS: Final = f'{{ publish: {json.dumps(OPERATOR_SUBJECTS)}, subscribe: ["{OPERATOR_INBOX}.>"] }}'
_WRITER_RIGHTS: Final = f'{{ publish: {json.dumps(WRITER_SUBJECTS)}, subscribe: ["{WRITER_INBOX}.>"] }}'
#: Users before those of services; NATS reads the variables from its environment. Operators (`saccade drain` and the
#: like) may do nothing but send commands and read what was recorded, replays nothing but store copies in sandboxes.
BASE: Final = (
    f"{{ user: $NATS_USER, password: $NATS_PASSWORD, permissions: {_SERVICE_RIGHTS} }}",
    f"{{ user: $NATS_OPERATOR_USER, password: $NATS_OPERATOR_PASSWORD, permissions: {_OPERATOR_RIGHTS} }}",
    f"{{ user: $NATS_REPLAYER_USER, password: $NATS_REPLAYER_PASSWORD, permissions: {_WRITER_RIGHTS} }}",
)
_HEAD: Final = "# Users of NATS. `saccade key service` and `saccade key sandbox` add lines with public keys."
_SERVICE: Final = re.compile(r"^\s*(?P<user>\{.*\}) # service (?P<name>\S+)$", re.MULTILINE)


def services_of(text: str) -> dict[str, str]:
    """Return the users of services in a file, by the service's name."""
    return {found["name"]: found["user"] for found in _SERVICE.finditer(text)}


def written(base: Iterable[str], services: dict[str, str]) -> str:
    """Return the text of a file of users, to be included in ``authorization``."""
    lines = [*base, *(f"{user} # service {name}" for name, user in services.items())]
    return "\n".join([_HEAD, "users: [", *(f"  {line}" for line in lines), "]"]) + "\n"


def base_of(text: str) -> list[str]:
    """Return the lines of a file's other users.

    Raises:
        ValueError: this is not such a file.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) < 3 or lines[0] != "users: [" or lines[-1] != "]":
        raise ValueError("not a file of NATS's users")
    return [line for line in lines[1:-1] if not _SERVICE.match(line)]


def with_service(text: str, grant: BusGrant, public_key: str, inbox: str) -> str:
    """Return the text of the file with a service's user added, or replaced.

    Raises:
        ValueError: this is not such a file.
    """
    rights = {"publish": list(grant.publish), "subscribe": [f"{inbox}.>", *grant.subscribe]}
    user = json.dumps({"nkey": public_key, "permissions": rights})
    return written(base_of(text), services_of(text) | {grant.name: user})


def without_service(text: str, name: str) -> str:
    """Return the text of the file without a service's user.

    Raises:
        KeyError: the file has no such service.
        ValueError: this is not such a file.
    """
    base, services = base_of(text), services_of(text)
    del services[name]
    return written(base, services)


def change_users(users: Path, change: Callable[[str], str], *, create: bool = False, mode: int = 0o644) -> None:
    """Replace the text of a file by what ``change`` makes of it, while no other command changes it.

    The file is written in place, not replaced: a mount in a container follows the inode. So the lock is on the file
    itself. The text is written in one step, with blanks up to the old length: a command that is killed leaves the old
    users or the new ones.

    Raises:
        OSError: it is missing and not to be created, or cannot be read or written.
        ValueError: as ``change``; the file is as it was.
    """
    file = os.open(users, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), mode)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        with os.fdopen(os.dup(file), "rb") as reader:
            before = reader.read()
        after = change(before.decode()).encode()
        os.pwrite(file, after.ljust(len(before)), 0)
        os.ftruncate(file, len(after))
        os.fsync(file)
    finally:
        os.close(file)
