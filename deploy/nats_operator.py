"""Makes the keys of a NATS in operator mode: an operator, our account, its signing key, the services' credentials.

Workers that run on somebody else's machines get a token each (kit/auth/bus_token.py), which nats-server
enforces by itself; that needs operator mode. Run it once, and keep the folder as you keep passwords:

    python -m deploy.nats_operator --folder nats-keys

then let ``include nats-keys/operator.conf`` take the place of ``authorization`` in deploy/nats.conf. What it writes,
and for whom, is in ``FILES``; why workers have an account of their own, in docs/adr/0005.
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

#: File: who needs it. Those of _PUBLIC hold nothing secret.
FILES: Final = {
    "operator.conf": "nats-server: operator, accounts and resolver, to be included in its configuration",
    "services.creds": "gateway, dispatcher and notifier: NATS_CREDENTIALS_FILE",
    "workers.seed": "the dispatcher: signs the workers' tokens",
    "workers.key": "the gateway: GATEWAY_WORKER_KEY, checks the workers' tokens",
    "senders.seed": "the gateway: GATEWAY_SESSION_SEED_FILE, signs credentials of live sessions' robots and cameras",
    "system.creds": "whoever looks after the server",
    "operator.seed": "nobody: keep it off-line, it makes accounts",
    "services.seed": "nobody: keep it off-line, it makes credentials of services",
}
_PUBLIC: Final = frozenset({"operator.conf", "workers.key"})
#: What the workers' account may ask of the services' account, whatever a token says.
_SERVED: Final = (
    "saccade.evt.*.job.*.*",
    "saccade.prog.*.job.*.*",
    f"$JS.API.DIRECT.GET.{EVENTS.name}.saccade.evt.*.job.*.*",
    # Of live sessions: what their workers say, the verdicts they keep, and to be given what was sent into one.
    "saccade.evt.*.session.*.*",
    "saccade.prog.*.session.*.*",
    "saccade.tele.*.session.*.acks",
    f"$JS.API.DIRECT.GET.{EVENTS.name}.saccade.evt.*.session.*.*",
    "saccade.feed.*.*.*",
)
#: What of the services' account is heard in the workers' account: a session's events as they are stored, its telemetry.
_HEARD: Final = ("live.saccade.evt.*.session.*.*", "saccade.fed.*.*.*")
#: What the account of robots and cameras may send into the services' account, and ask of the workers' account.
_SENT: Final = ("saccade.tele.*.session.*.joints", "saccade.tele.*.session.*.frames")
_ASKED: Final = ("saccade.clock.*.session.*",)
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
    """Write an account without limits of its own."""
    names = ("subs", "data", "payload", "imports", "exports", "conn", "leaf")
    limits = dict.fromkeys(names, _UNLIMITED) | {"wildcards": True} | more.pop("limits", {})
    return _claims(operator, account, name, {"type": "account", "limits": limits} | more)


def _user(account: nkeys.KeyPair, name: str) -> str:
    """Write credentials that may do everything inside an account."""
    user = _new_key(nkeys.PREFIX_BYTE_USER)
    nats = {"type": "user", "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1}
    return credentials(_claims(account, user, name, nats), _seed(user))


def _services(subjects: tuple[str, ...]) -> list[dict[str, str]]:
    return [{"name": subject, "subject": subject, "type": "service"} for subject in subjects]


def _streams(subjects: tuple[str, ...]) -> list[dict[str, str]]:
    return [{"name": subject, "subject": subject, "type": "stream"} for subject in subjects]


def _of(account: nkeys.KeyPair, exports: list[dict[str, str]]) -> list[dict[str, str]]:
    """Import what another account exports."""
    return [one | {"account": _public(account)} for one in exports]


def make() -> dict[str, str]:
    """Make everything; give the files' contents by name."""
    operator = _new_key(nkeys.PREFIX_BYTE_OPERATOR)
    system, services, workers, senders = (_new_key(nkeys.PREFIX_BYTE_ACCOUNT) for _ in range(4))
    jetstream = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), _UNLIMITED)
    served, sent, asked = [*_services(_SERVED), *_streams(_HEARD)], _services(_SENT), _services(_ASKED)
    preload = {
        _public(system): _account(operator, system, "SYSTEM"),
        _public(services): _account(operator, services, "SACCADE", limits=jetstream, exports=[*served, *sent]),
        _public(workers): _account(operator, workers, "WORKERS", imports=_of(services, served), exports=asked),
        _public(senders): _account(operator, senders, "SENDERS", imports=[*_of(services, sent), *_of(workers, asked)]),
    }
    operator_jwt = _claims(operator, operator, "saccade", {"type": "operator", "system_account": _public(system)})
    lines = [f"operator: {operator_jwt}", f"system_account: {_public(system)}", "resolver: MEMORY"]
    # A client sends its token in one line; that of a session's worker outgrows the server's 4 KiB with a long tenant.
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
    """Write the files into a new folder."""
    parser = argparse.ArgumentParser(description="Make the keys of a NATS in operator mode.")
    parser.add_argument("--folder", type=Path, required=True, help="where to write; it must not be there yet")
    folder: Path = parser.parse_args().folder
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        sys.stderr.write(f"There is {folder} already. New keys would lock out everybody who has the old ones.\n")
        return 1
    for name, text in make().items():
        path = folder / name
        path.touch(mode=0o644 if name in _PUBLIC else 0o600)
        path.write_text(text)
    sys.stdout.write("".join(f"{folder / name}: {who}\n" for name, who in FILES.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
