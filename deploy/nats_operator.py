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

from contracts.commands import EVERY_COMMAND, OPERATOR_READS
from contracts.consumers import JETSTREAM_API, USER_SERVICE_API, dead_letter_subject
from contracts.sandbox import EVERY_COPY, EVERY_DELIVERY, FLOW_CONTROL, WRITER, WRITER_INBOX, WRITER_SUBJECTS
from contracts.streams import EVENTS
from kit.auth.bus_token import credentials, sign

#: Files and their users. Those of _PUBLIC hold no secret.
FILES: Final = {
    "operator.conf": "nats-server: operator, accounts and resolver, to be included in its configuration",
    "services.creds": "gateway, dispatcher and notifier: NATS_CREDENTIALS_FILE",
    "workers.seed": "the dispatcher: signs the workers' tokens",
    "workers.key": "the gateway: GATEWAY_WORKER_KEY, checks the workers' tokens",
    "senders.seed": "the gateway: GATEWAY_SESSION_SEED_FILE, signs credentials of live sessions' robots and cameras",
    "user_services.seed": "the operator, for `saccade key service`: signs credentials of users' own services",
    "operators.creds": "people who operate Saccade: NATS_CREDENTIALS_FILE of `saccade drain` and the like",
    "replayer.creds": "the notifier: NOTIFIER_SANDBOX_NATS_CREDENTIALS_FILE, stores replayed events in sandboxes",
    "sandboxes.seed": "the operator, for `saccade key sandbox`: signs credentials of who reads a sandbox",
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
    # Live sessions: events, stored acknowledgements, and requests for consumers of telemetry and events.
    "saccade.evt.*.session.*.*",
    "saccade.prog.*.session.*.*",
    "saccade.tele.*.session.*.acks",
    "saccade.feed.*.*.*",
)
#: Subjects delivered from the services' account to the workers' account: sessions' telemetry and events.
_DELIVERED_SUBJECTS: Final = ("saccade.fed.*.*.*",)
#: Subjects that robots and cameras may publish to the services' account, and request from the workers' account.
_SENDER_SUBJECTS: Final = ("saccade.tele.*.session.*.joints", "saccade.tele.*.session.*.frames")
_CLOCK_SUBJECTS: Final = ("saccade.clock.*.session.*",)
#: Subjects that users' own services may publish to the services' account; credentials limit them to their consumers.
#: An account has a $JS.API of its own, which answers that it has no JetStream: there the requests begin with
#: USER_SERVICE_API instead.
_CONSUMER_REQUESTS: Final = ("CONSUMER.INFO", "CONSUMER.MSG.NEXT")
_USER_SERVICE_SUBJECTS: Final = (f"$JS.ACK.{EVENTS.name}.>", dead_letter_subject(EVENTS.name, "*"))
#: Nobody in the services' account sends commands: a command comes from an operator's account, whose user the server
#: names to the service. Nobody there stores copies in sandboxes either: who does has an account of its own.
_DENIED_TO_SERVICES: Final = (EVERY_COMMAND, EVERY_COPY)
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


def _user(
    account: nkeys.KeyPair, name: str, publish: dict[str, list[str]] | None = None, inbox: str | None = None
) -> str:
    """Return credentials with all rights inside an account; ``publish`` and an inbox to subscribe to limit them."""
    user = _new_key(nkeys.PREFIX_BYTE_USER)
    subscribe = {"allow": [f"{inbox}.>"]} if inbox else {}
    nats = {"type": "user", "pub": publish or {}, "sub": subscribe, "subs": -1, "data": -1, "payload": -1}
    return credentials(_claims(account, user, name, nats), _seed(user))


def _services(subjects: tuple[str, ...]) -> list[dict[str, str]]:
    return [{"name": subject, "subject": subject, "type": "service"} for subject in subjects]


def _batches(subjects: tuple[str, ...]) -> list[dict[str, str]]:
    """Return exports of services that send several replies to a request."""
    return [export | {"response_type": "Stream"} for export in _services(subjects)]


def _streams(subjects: tuple[str, ...]) -> list[dict[str, str]]:
    return [{"name": subject, "subject": subject, "type": "stream"} for subject in subjects]


def _imports(account: nkeys.KeyPair, exports: list[dict[str, str]], **more: Any) -> list[dict[str, Any]]:
    """Return imports of another account's exports."""
    fields = ("name", "subject", "type")
    return [{name: export[name] for name in fields} | {"account": _public(account)} | more for export in exports]


def _consumer_requests() -> list[dict[str, str]]:
    """Return exports of the requests that a consumer's reader makes; a pull may have several answers."""
    return _batches(tuple(f"{JETSTREAM_API}.{request}.{EVENTS.name}.*" for request in _CONSUMER_REQUESTS))


def _consumer_imports(account: nkeys.KeyPair) -> list[dict[str, str]]:
    return [
        {
            "name": request,
            "subject": f"{JETSTREAM_API}.{request}.{EVENTS.name}.*",
            "local_subject": f"{USER_SERVICE_API}.{request}.{EVENTS.name}.$1",
            "account": _public(account),
            "type": "service",
        }
        for request in _CONSUMER_REQUESTS
    ]


def make() -> dict[str, str]:
    """Create all keys; return the files' contents by name."""
    operator = _new_key(nkeys.PREFIX_BYTE_OPERATOR)
    system, services, workers, senders, user_services, operators, replayer, sandboxes = (
        _new_key(nkeys.PREFIX_BYTE_ACCOUNT) for _ in range(8)
    )
    jetstream = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), _UNLIMITED)
    from_workers, from_senders, clock, from_user_services = (
        [*_services(_WORKER_SUBJECTS), *_streams(_DELIVERED_SUBJECTS)],
        _services(_SENDER_SUBJECTS),
        _services(_CLOCK_SUBJECTS),
        _services(_USER_SERVICE_SUBJECTS),
    )
    from_operators = [*_services((EVERY_COMMAND,)), *_batches(OPERATOR_READS)]
    from_replayer = _services(WRITER_SUBJECTS)
    with_sandboxes = [*_streams((EVERY_DELIVERY,)), *_services((FLOW_CONTROL,))]
    exports = [*from_workers, *from_senders, *from_user_services, *_consumer_requests(), *from_operators]
    exports += [*from_replayer, *with_sandboxes]
    preload = {
        _public(system): _account(operator, system, "SYSTEM"),
        _public(services): _account(operator, services, "SACCADE", limits=jetstream, exports=exports),
        # ``share`` has the server name the user who sends.
        _public(operators): _account(
            operator, operators, "OPERATORS", imports=_imports(services, from_operators, share=True)
        ),
        _public(workers): _account(
            operator, workers, "WORKERS", imports=_imports(services, from_workers), exports=clock
        ),
        _public(senders): _account(
            operator, senders, "SENDERS", imports=[*_imports(services, from_senders), *_imports(workers, clock)]
        ),
        _public(user_services): _account(
            operator,
            user_services,
            "USER_SERVICES",
            imports=[*_imports(services, from_user_services), *_consumer_imports(services)],
        ),
        _public(replayer): _account(operator, replayer, "REPLAYER", imports=_imports(services, from_replayer)),
        _public(sandboxes): _account(operator, sandboxes, "SANDBOXES", imports=_imports(services, with_sandboxes)),
    }
    operator_jwt = _claims(operator, operator, "saccade", {"type": "operator", "system_account": _public(system)})
    lines = [f"operator: {operator_jwt}", f"system_account: {_public(system)}", "resolver: MEMORY"]
    # A client sends its token in one line; a session worker's with a long tenant name exceeds the default of 4 KiB.
    lines += ["max_control_line: 8192"]
    lines += ["resolver_preload: {", *(f"  {key}: {jwt}" for key, jwt in preload.items()), "}"]
    return {
        "operator.conf": "\n".join(lines) + "\n",
        "services.creds": _user(services, "services", {"deny": list(_DENIED_TO_SERVICES)}),
        "operators.creds": _user(operators, "operator"),
        "workers.seed": _seed(workers) + "\n",
        "workers.key": _public(workers) + "\n",
        "senders.seed": _seed(senders) + "\n",
        "user_services.seed": _seed(user_services) + "\n",
        "replayer.creds": _user(replayer, WRITER, {"allow": list(WRITER_SUBJECTS)}, WRITER_INBOX),
        "sandboxes.seed": _seed(sandboxes) + "\n",
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
