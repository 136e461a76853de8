"""Requests from one service to another: ``saccade.ask.<service>.<verb>``, answered by a model or an error.

Services may send them and operators may not: who asks has checked the caller already, and says who that was. Commands
of operators have subjects of their own (contracts/commands.py).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import BaseModel, ValidationError

from contracts.commands import ANSWER_PREFIXES, COMMAND_S, Command, CommandError, read_answer
from contracts.errors import ErrorCode, SaccadeError

log = logging.getLogger(__name__)

Answer = TypeVar("Answer", bound=BaseModel)
#: Carries a request out and returns its answer.
Handler = Callable[[Any], Awaitable[BaseModel]]
_NOBODY: Final = "Nothing was done: try again in a few seconds."


async def ask(client: Client, command: Command, answer: type[Answer], request: BaseModel) -> Answer:
    """Send a request to another service and return its answer.

    Raises:
        SaccadeError: what the service raised; SERVICE_UNAVAILABLE: no process of it answers.
    """
    try:
        reply = await client.request(command.ask_subject, request.model_dump_json().encode(), timeout=COMMAND_S)
        read = read_answer(command, reply.data)
    except nats.errors.NoRespondersError as error:
        raise SaccadeError(ErrorCode.SERVICE_UNAVAILABLE, f"No {command.service} runs.", hint=_NOBODY) from error
    except (TimeoutError, nats.errors.Error) as error:
        message = f"No {command.service} answered within {COMMAND_S:.0f} s."
        raise SaccadeError(
            ErrorCode.SERVICE_UNAVAILABLE, message, hint="Look at the audit log, then try again."
        ) from error
    except ValueError as error:
        message = f"The {command.service} gave an answer that this version cannot read."
        raise SaccadeError(ErrorCode.INTERNAL, message) from error
    if isinstance(read, CommandError):
        raise read.as_error()
    assert isinstance(read, answer)
    return read


async def answer_requests(
    client: Client, handlers: Mapping[Command, Handler], *, queue: str = "", answers: Callable[[], bool] = lambda: True
) -> None:
    """Subscribe to requests. Of the processes with the same ``queue`` one gets each; without it every one does.

    While ``answers()`` is false, requests are left to another process, and nothing is said.
    """
    for command, handler in handlers.items():

        async def on_request(message: Msg, command: Command = command, handler: Handler = handler) -> None:
            # Who asks names the subject of the answer: on an event's subject it would be stored as an event.
            if message.reply.startswith(ANSWER_PREFIXES) and answers():
                await message.respond((await _answer(command, handler, message.data)).model_dump_json().encode())

        await client.subscribe(command.ask_subject, queue=queue, cb=on_request)


async def _answer(command: Command, handler: Handler, body: bytes) -> BaseModel:
    """Carry a request out; return its answer, or the error."""
    try:
        return await handler(command.request.model_validate_json(body))
    except ValidationError as error:
        return _error(SaccadeError(ErrorCode.MALFORMED_REQUEST, str(error).splitlines()[0]))
    except SaccadeError as error:
        return _error(error)
    except Exception as error:  # otherwise who asks hears nothing
        log.exception("%s failed", command.ask_subject)
        return _error(SaccadeError(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}"))


def _error(error: SaccadeError) -> CommandError:
    return CommandError(code=error.code.value, message=error.message, hint=error.hint)
