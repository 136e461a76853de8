"""Requests to JetStream's API in its own JSON, for options that nats-py's classes do not have."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

import nats.errors
from nats.aio.client import Client

from contracts.errors import ErrorCode, SaccadeError

STREAM_NOT_FOUND: Final = 10059
NO_MESSAGE_FOUND: Final = 10037
#: Answers to a request to delete a message that is deleted already.
_IS_DELETED: Final = frozenset({NO_MESSAGE_FOUND, 10043, 10057})
#: Another process has created or changed the stream since it was read.
STREAM_EXISTS: Final = 10058
_API: Final = "$JS.API"
#: More subjects than a stream has.
_BEYOND: Final = 10**9


class StreamMissing(SaccadeError):  # noqa: N818 - an expected result, not a fault
    """NATS is available and has no such stream: it must be declared."""


async def request(client: Client, subject: str, body: dict[str, Any], timeout_s: float = 5.0) -> dict[str, Any]:
    """Call the JetStream API.

    Raises:
        SaccadeError: BUS_UNAVAILABLE, when there is no reply.
    """
    try:
        reply = await client.request(f"{_API}.{subject}", json.dumps(body).encode(), timeout=timeout_s)
    except (TimeoutError, nats.errors.Error) as error:
        raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"NATS did not answer {subject}.") from error
    answer: dict[str, Any] = json.loads(reply.data)
    return answer


def error_code(answer: dict[str, Any]) -> int:
    """Return JetStream's code of the error in an answer; 0 when it is not an error."""
    return int(answer["error"].get("err_code", 0)) if "error" in answer else 0


def sequence_in(description: str) -> int:
    """Return the sequence that the server says instead of the expected one; 0 if it says none."""
    number = description.rpartition(":")[2].strip()
    return int(number) if number.isdecimal() else 0


async def stream_info(client: Client, stream: str, timeout_s: float = 5.0) -> dict[str, Any]:
    """Return configuration, state and time of creation of a stream.

    Raises:
        StreamMissing: there is no such stream.
        SaccadeError: BUS_UNAVAILABLE.
    """
    return await _stream_info(client, stream, {}, timeout_s)


async def first_stored_since(
    client: Client, stream: str, since: datetime | str, subjects: str = ">", timeout_s: float = 5.0
) -> int | None:
    """Return the sequence of the first message that was stored at a time or later; None if there is none.

    ``since`` may be a time as the server writes it; ``subjects`` is the filter.

    Raises:
        SaccadeError: BUS_UNAVAILABLE.
    """
    start = since if isinstance(since, str) else since.astimezone(UTC).isoformat().replace("+00:00", "Z")
    body = {"start_time": start, "next_by_subj": subjects}
    answer = await request(client, f"STREAM.MSG.GET.{stream}", body, timeout_s)
    if "message" in answer:
        return int(answer["message"]["seq"])
    if error_code(answer) == NO_MESSAGE_FOUND:
        return None
    raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"NATS: {answer.get('error', {}).get('description')}.")


async def delete_message(client: Client, stream: str, sequence: int, *, overwrites: bool = True) -> None:
    """Delete a message, if it is not deleted yet; by default, have its bytes overwritten.

    Raises:
        SaccadeError: BUS_UNAVAILABLE.
    """
    answer = await request(client, f"STREAM.MSG.DELETE.{stream}", {"seq": sequence, "no_erase": not overwrites})
    if "error" in answer and error_code(answer) not in _IS_DELETED:
        raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"NATS: {answer['error'].get('description')}.")


async def count_subjects(client: Client, stream: str, subjects: str) -> int:
    """Return how many subjects of a stream that match ``subjects`` have a message.

    Raises:
        StreamMissing: there is no such stream.
        SaccadeError: BUS_UNAVAILABLE.
    """
    # The page of their names begins beyond all of them: only their number is wanted.
    wanted = {"subjects_filter": subjects, "offset": _BEYOND}
    return int((await _stream_info(client, stream, wanted)).get("total", 0))


async def _stream_info(client: Client, stream: str, wanted: dict[str, Any], timeout_s: float = 5.0) -> dict[str, Any]:
    info = await request(client, f"STREAM.INFO.{stream}", wanted, timeout_s)
    if error_code(info) == STREAM_NOT_FOUND:
        raise StreamMissing(ErrorCode.BUS_UNAVAILABLE, f"There is no stream {stream}.")
    if "error" in info:
        raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"Stream {stream}: {info['error'].get('description')}.")
    return info
