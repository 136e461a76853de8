"""Connection to NATS, and declaration of its streams."""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import Callable, Iterable
from typing import Any, Final

import nats
from nats.aio.client import Client, RawCredentials, Srv
from nats.aio.transport import TcpTransport

from contracts.errors import ErrorCode, SaccadeError
from contracts.streams import STREAMS, Stream
from kit.settings import NatsSettings

log = logging.getLogger(__name__)

_API = "$JS.API"
_STREAM_NOT_FOUND = 10059
#: Errors of the server when credentials do not allow an operation, or have expired.
_REFUSALS: Final = (
    "permissions violation",
    "authorization violation",
    "authentication expired",
    "authentication revoked",
)


class StreamMissing(SaccadeError):  # noqa: N818 - an expected result, not a fault
    """NATS is available and has no such stream: it must be declared."""


class _Client(Client):
    """nats-py's client, with the socket of a failed attempt closed: nats-py leaves it open (seen in 2.16.0).

    A proxy or a container engine accepts connections before the server behind it listens, and closes them.
    """

    async def _connect_to_server(self, s: Srv) -> None:
        if isinstance(self._transport, TcpTransport):
            self._transport.close()  # type: ignore[no-untyped-call]
        await super()._connect_to_server(s)


async def connect(settings: NatsSettings, name: str, on_refused: Callable[[str], None] | None = None) -> Client:
    """Connect and stay connected: the client waits for the server at the start and after every disconnect.

    ``on_refused`` is called with the server's message when it refuses an operation to these credentials: otherwise such
    a publish or request is only visible as a timeout.
    """
    logged = ""

    async def on_error(error: Exception) -> None:
        # Every attempt to connect fails alike while the server is unavailable: log it once.
        nonlocal logged
        if logged != (logged := str(error) or type(error).__name__):
            log.warning("nats: %s", logged)
        report_refusal(str(error))

    def report_refusal(message: str) -> None:
        if on_refused is not None and any(refusal in message.lower() for refusal in _REFUSALS):
            on_refused(message.removeprefix("nats: "))

    async def on_disconnected() -> None:
        log.warning("nats: disconnected")

    async def on_reconnected() -> None:
        nonlocal logged
        logged = ""
        log.info("nats: reconnected")

    async def on_closed() -> None:
        # The server reports expired credentials and disconnects; nats-py then closes without calling on_error.
        report_refusal(str(client.last_error or ""))

    client = _Client()
    await client.connect(
        settings.url,
        name=name,
        error_cb=on_error,
        disconnected_cb=on_disconnected,
        reconnected_cb=on_reconnected,
        closed_cb=on_closed,
        **_options(settings),
    )
    return client


def _options(settings: NatsSettings) -> dict[str, Any]:
    """Return nats-py's options: timeouts, credentials, TLS (``SSL_CERT_FILE`` names a private authority)."""
    options: dict[str, Any] = {
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": 0.2,
        "connect_timeout": 2,
        "ping_interval": 10,
        "max_outstanding_pings": 2,
        "pending_size": 8 * 1024 * 1024,
    }
    if settings.credentials:
        options["user_credentials"] = RawCredentials(settings.credentials.get_secret_value())
    elif settings.credentials_file:
        options["user_credentials"] = settings.credentials_file
    elif settings.user:
        password = settings.password.get_secret_value() if settings.password else None
        options |= {"user": settings.user, "password": password}
    if settings.url.startswith(("tls://", "wss://")):
        options["tls"] = ssl.create_default_context()
    if settings.inbox_prefix:
        options["inbox_prefix"] = settings.inbox_prefix.encode()
    return options


async def request(client: Client, subject: str, body: dict[str, Any], timeout_s: float = 5.0) -> dict[str, Any]:
    """Call the JetStream API with raw JSON, for options that nats-py's classes do not have.

    Raises:
        SaccadeError: BUS_UNAVAILABLE, when there is no reply.
    """
    try:
        reply = await client.request(f"{_API}.{subject}", json.dumps(body).encode(), timeout=timeout_s)
    except (TimeoutError, nats.errors.Error) as error:
        raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"NATS did not answer {subject}.") from error
    answer: dict[str, Any] = json.loads(reply.data)
    return answer


def _stream_config(stream: Stream, replicas: int) -> dict[str, Any]:
    """Return the stream's configuration in the form of JetStream's API."""
    second = 1_000_000_000
    config: dict[str, Any] = {
        "name": stream.name,
        "subjects": list(stream.subjects),
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "max_age": stream.max_age_s * second,
        "max_bytes": stream.max_bytes,
        "max_msg_size": stream.max_message_bytes,
        "max_msgs_per_subject": stream.max_per_subject,
        "discard": stream.discard,
        "duplicate_window": min(stream.duplicate_window_s, stream.max_age_s or stream.duplicate_window_s) * second,
        "allow_direct": stream.allow_direct,
        "allow_msg_ttl": stream.allow_message_ttl,
    }
    if stream.republish:
        config["republish"] = {"src": ">", "dest": f"{stream.republish}.>"}
    if stream.persist_async and replicas == 1:
        config["persist_mode"] = "async"
    return config


async def declare(client: Client, replicas: int = 1, streams: Iterable[Stream] = STREAMS) -> None:
    """Create missing streams, and update the configured fields of the others; idempotent.

    Raises:
        SaccadeError: BUS_UNAVAILABLE, when NATS does not reply or refuses a change (of retention or storage).
    """
    for stream in streams:
        wanted = _stream_config(stream, replicas)
        info = await request(client, f"STREAM.INFO.{stream.name}", {})
        if "error" in info and info["error"].get("err_code") == _STREAM_NOT_FOUND:
            answer = await request(client, f"STREAM.CREATE.{stream.name}", wanted)
        else:
            config = info.get("config", {})
            if all(config.get(name) == value for name, value in wanted.items()):
                continue
            answer = await request(client, f"STREAM.UPDATE.{stream.name}", config | wanted)
        if "error" in answer:
            reason = answer["error"].get("description", "")
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"NATS refused stream {stream.name}: {reason}.")


async def epoch_of(client: Client, stream: str) -> tuple[str, int]:
    """Return the stream's epoch (its incarnation, from its creation time) and its last sequence.

    Raises:
        StreamMissing: there is no such stream.
        SaccadeError: BUS_UNAVAILABLE.
    """
    info = await request(client, f"STREAM.INFO.{stream}", {})
    if "error" in info and info["error"].get("err_code") == _STREAM_NOT_FOUND:
        raise StreamMissing(ErrorCode.BUS_UNAVAILABLE, f"There is no stream {stream}.")
    if "error" in info:
        raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"Stream {stream}: {info['error'].get('description')}.")
    created = "".join(filter(str.isdigit, info["created"]))
    return f"{int(created[:20].ljust(20, '0')):x}", int(info["state"]["last_seq"])
