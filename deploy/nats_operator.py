"""Key generator for NATS in operator mode: operator, accounts, signing keys, credentials of the services.

Each worker in a cloud gets its own token (kit/auth/bus_token.py), which nats-server checks itself; that needs
operator mode. Run it once, and protect the folder like passwords:

    python -m deploy.nats_operator --folder nats-keys

then replace ``authorization`` in deploy/nats.conf by ``include nats-keys/operator.conf``. ``FILES`` lists the files
and their users; docs/adr/0005 explains why workers have an account of their own.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

import nkeys

from contracts.streams import EVENTS
from kit.auth.bus_token import credentials, sign

#: Files and their users. Those of _PUBLIC hold no secret.
FILES: Final = {
    "operator.conf": "nats-server: operator, accounts and resolver, to be included in its configuration",
    "services.creds": "gateway, dispatcher and notifier: NATS_CREDENTIALS_FILE",
    "workers.seed": "the dispatcher: signs the workers' tokens",
    "workers.key": "the gateway: GATEWAY_WORKER_KEY, checks the workers' tokens",
    "senders.seed": "the gateway: GATEWAY_SESSION_SEED_FILE, signs credentials of live sessions' robots and cameras",
    "system.creds": "the operator of nats-server",
    "operator.seed": "no service: keep it offline, it creates accounts",
    "services.seed": "no service: keep it offline, it creates credentials of services",
}
_PUBLIC: Final = frozenset({"operator.conf", "workers.key"})
#: Subjects that the workers' account may publish to the services' account; a token limits them further.
_WORKER_SUBJECTS: Final = (
    "saccade.evt.*.job.*.*",
    "saccade.prog.*.job.*.*",
    f"$JS.API.DIRECT.GET.{EVENTS.name}.saccade.evt.*.job.*.*",
    # Live sessions: events, stored acknowledgements, and requests for telemetry consumers.
    "saccade.evt.*.session.*.*",
    "saccade.prog.*.session.*.*",
    "saccade.tele.*.session.*.acks",
    f"$JS.API.DIRECT.GET.{EVENTS.name}.saccade.evt.*.session.*.*",
    "saccade.feed.*.*.*",
)
#: Subjects delivered from the services' account to the workers' account: stored session events, telemetry.
_DELIVERED_SUBJECTS: Final = ("live.saccade.evt.*.session.*.*", "saccade.fed.*.*.*")
#: Subjects that robots and cameras may publish to the services' account, and request from the workers' account.
_SENDER_SUBJECTS: Final = ("saccade.tele.*.session.*.joints", "saccade.tele.*.session.*.frames")
_CLOCK_SUBJECTS: Final = ("saccade.clock.*.session.*",)
_UNLIMITED: Final = -1


def _new_key(kind: int) -> nkeys.KeyPair:
    return nkeys.from_seed(bytearray(nkeys.encode_seed(os.urandom(32), kind)))


def _public(key: nkeys.KeyPair) -> str:
    return str(key.public_key.decode())


def _seed(key: nkeys.KeyPair) -> str:
    return bytes(key.seed).decode()


def _claims(issuer: nkeys.KeyPair, subject: nkeys.KeyPair, name: str, nats: dict[str, Any]) -> str:
    body = {"iss": _public(issuer), "sub": _public(subject), "iat": int(time.time()), "name": name}
    return sign(body | {"nats": nats | {"version": 2}}, issuer)


def _account(operator: nkeys.KeyPair, account: nkeys.KeyPair, name: str, **more: Any) -> str:
    """Return the JWT of an account, without limits by default."""
    names = ("subs", "data", "payload", "imports", "exports", "conn", "leaf")
    limits = dict.fromkeys(names, _UNLIMITED) | {"wildcards": True} | more.pop("limits", {})
    return _claims(operator, account, name, {"type": "account", "limits": limits} | more)


def _user(account: nkeys.KeyPair, name: str) -> str:
    """Return credentials with all rights inside an account."""
    user = _new_key(nkeys.PREFIX_BYTE_USER)
    nats = {"type": "user", "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1}
    return credentials(_claims(account, user, name, nats), _seed(user))


def _services(subjects: tuple[str, ...]) -> list[dict[str, str]]:
    return [{"name": subject, "subject": subject, "type": "service"} for subject in subjects]


def _streams(subjects: tuple[str, ...]) -> list[dict[str, str]]:
    return [{"name": subject, "subject": subject, "type": "stream"} for subject in subjects]


def _imports(account: nkeys.KeyPair, exports: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return imports of another account's exports."""
    return [export | {"account": _public(account)} for export in exports]


def make() -> dict[str, str]:
    """Create all keys; return the files' contents by name."""
    operator = _new_key(nkeys.PREFIX_BYTE_OPERATOR)
    system, services, workers, senders = (_new_key(nkeys.PREFIX_BYTE_ACCOUNT) for _ in range(4))
    jetstream = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), _UNLIMITED)
    from_workers, from_senders, clock = (
        [*_services(_WORKER_SUBJECTS), *_streams(_DELIVERED_SUBJECTS)],
        _services(_SENDER_SUBJECTS),
        _services(_CLOCK_SUBJECTS),
    )
    preload = {
        _public(system): _account(operator, system, "SYSTEM"),
        _public(services): _account(
            operator, services, "SACCADE", limits=jetstream, exports=[*from_workers, *from_senders]
        ),
        _public(workers): _account(
            operator, workers, "WORKERS", imports=_imports(services, from_workers), exports=clock
        ),
        _public(senders): _account(
            operator, senders, "SENDERS", imports=[*_imports(services, from_senders), *_imports(workers, clock)]
        ),
    }
    operator_jwt = _claims(operator, operator, "saccade", {"type": "operator", "system_account": _public(system)})
    lines = [f"operator: {operator_jwt}", f"system_account: {_public(system)}", "resolver: MEMORY"]
    # A client sends its token in one line; a session worker's with a long tenant name exceeds the default of 4 KiB.
    lines += ["max_control_line: 8192"]
    lines += ["resolver_preload: {", *(f"  {key}: {jwt}" for key, jwt in preload.items()), "}"]
    return {
        "operator.conf": "\n".join(lines) + "\n",
        "services.creds": _user(services, "services"),
        "workers.seed": _seed(workers) + "\n",
        "workers.key": _public(workers) + "\n",
        "senders.seed": _seed(senders) + "\n",
        "system.creds": _user(system, "system"),
        "operator.seed": _seed(operator) + "\n",
        "services.seed": _seed(services) + "\n",
    }


def main() -> int:
    """Create the folder and write the files."""
    parser = argparse.ArgumentParser(description="Create the keys of NATS in operator mode.")
    parser.add_argument("--folder", type=Path, required=True, help="folder to create; it must not exist")
    folder: Path = parser.parse_args().folder
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        sys.stderr.write(f"{folder} exists already. New keys would invalidate the old ones: choose another folder.\n")
        return 1
    for name, text in make().items():
        path = folder / name
        path.touch(mode=0o644 if name in _PUBLIC else 0o600)
        path.write_text(text)
    sys.stdout.write("".join(f"{folder / name}: {user}\n" for name, user in FILES.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
