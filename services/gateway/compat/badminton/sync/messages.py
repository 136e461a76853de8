"""Messages that a Convex client sends over its sync WebSocket, and the values in those that it receives. Pure.

Source: the package ``convex`` 1.31.7, src/browser/sync/protocol.ts.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

_ID_CHARS: Final = 100
#: Changes of the query set in one message: a client that reconnects adds all its queries at once.
_MODIFICATIONS: Final = 200


class ProtocolViolation(Exception):  # noqa: N818 - what a client did, not a fault of ours
    """The client sent what the protocol does not allow; the text says what."""


class _Message(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="ignore")


_Version = Annotated[int, Field(ge=0, lt=1 << 53)]


class Connect(_Message):
    """First message of a connection."""

    type: Literal["Connect"]
    session_id: str = Field(max_length=_ID_CHARS)
    max_observed_timestamp: str | None = None


class AddQuery(_Message):
    """A query that the client wants to follow."""

    type: Literal["Add"]
    query_id: _Version
    udf_path: str
    args: list[Any] = Field(default_factory=list)


class RemoveQuery(_Message):
    """A query that the client no longer follows."""

    type: Literal["Remove"]
    query_id: _Version


class ModifyQuerySet(_Message):
    """Change of the set of queries that the client follows."""

    type: Literal["ModifyQuerySet"]
    base_version: _Version
    new_version: _Version
    modifications: list[Annotated[AddQuery | RemoveQuery, Field(discriminator="type")]] = Field(
        max_length=_MODIFICATIONS
    )


class Authenticate(_Message):
    """Change of the identity; its token is neither read nor kept, because the base URL contains the API key."""

    type: Literal["Authenticate"]
    base_version: _Version


class FunctionCall(_Message):
    """Call of a mutation or an action."""

    type: Literal["Mutation", "Action"]
    request_id: _Version
    udf_path: str
    args: list[Any] = Field(default_factory=list)


class ClientEvent(_Message):
    """Statistics of the client."""

    type: Literal["Event"]


ClientMessage = Connect | ModifyQuerySet | Authenticate | FunctionCall | ClientEvent
_MESSAGE: Final[TypeAdapter[ClientMessage]] = TypeAdapter(Annotated[ClientMessage, Field(discriminator="type")])


def parse_message(text: str) -> ClientMessage:
    """Parse one message.

    Raises:
        ProtocolViolation: it is none of the client's messages.
    """
    try:
        # Not by pydantic's parser: it refuses half a surrogate pair, and the client would send the message again for
        # ever. Functions refuse such a text by a response.
        return _MESSAGE.validate_python(json.loads(text))
    except (json.JSONDecodeError, RecursionError):
        raise ProtocolViolation("a message is not JSON") from None
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise ProtocolViolation(f"{where}: {fault['msg']}" if where else fault["msg"]) from None


def arguments(args: list[Any]) -> dict[str, Any]:
    """Return the named arguments of a function: the client sends one object in a list."""
    return args[0] if len(args) == 1 and isinstance(args[0], dict) else {}


def function_name(udf_path: str) -> str:
    """Return the name of a function, ``videos:getVideo``; the file's extension and the default name may be left out."""
    module, _, name = udf_path.partition(":")
    return f"{module.removesuffix('.js')}:{name or 'default'}"


def encode_timestamp(timestamp: int) -> str:
    """Encode a timestamp: 64 bits, little-endian, in base64."""
    return base64.b64encode(timestamp.to_bytes(8, "little")).decode()


def decode_timestamp(text: str) -> int:
    """Decode a timestamp.

    Raises:
        ProtocolViolation: it is none.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 8:
        raise ProtocolViolation("maxObservedTimestamp: not a timestamp")
    return int.from_bytes(raw, "little")
