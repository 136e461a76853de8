"""Commands of a service: requests on ``saccade.cmd.<service>.<verb>``, each with one typed answer or a typed error."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any, Final

from faststream import BaseMiddleware, Context
from faststream.nats import NatsRouter
from nats.aio.msg import Msg
from pydantic import BaseModel, ValidationError

from contracts.commands import ANSWER_PREFIXES, Command, CommandError, CommandSender
from contracts.errors import ErrorCode, SaccadeError

log = logging.getLogger(__name__)

#: Header in which nats-server names the user of another account who sent a request.
_REQUEST_INFO: Final = "Nats-Request-Info"


#: Router of FastStream's, to be included in a bus.
Router = NatsRouter
#: Carries a command out and returns its answer.
Handler = Callable[[Any, CommandSender], Awaitable[BaseModel]]


class Commands:
    """The commands of one service."""

    def __init__(self, *, answers: Callable[[], bool] = lambda: True, verified_senders: bool = False) -> None:
        """While ``answers()`` is false, requests are left to another process, and nothing is said.

        With ``verified_senders`` nats-server names who sent a command: services and operators have accounts of their
        own, so that nobody else can write that header.
        """
        self._answers = answers
        self._verified_senders = verified_senders
        self._handlers: dict[Command, Handler] = {}

    @property
    def declarations(self) -> tuple[Command, ...]:
        """The commands, in the order in which they were declared."""
        return tuple(self._handlers)

    def on(self, command: Command, handler: Handler) -> None:
        """Set the handler of a command.

        Raises:
            ValueError: it has a handler already.
        """
        if command in self._handlers:
            raise ValueError(f"{command.subject} has a handler already")
        self._handlers[command] = handler

    def router(self) -> Router:
        """Return a router for a bus. Every process gets each request: only one of them answers."""
        router = NatsRouter(middlewares=[partial(_AnswersOnly, answers=self._answers)])
        for command, handler in self._handlers.items():
            self._subscribe(router, command, handler)
        return router

    def _subscribe(self, router: NatsRouter, command: Command, handler: Handler) -> None:
        async def answer(body: bytes, message: Annotated[Any, Context()]) -> bytes:
            reply = await _answer(command, handler, body, self._sender(message.raw_message))
            return reply.model_dump_json().encode()

        # The decoder leaves the bytes alone: otherwise a header of the message chooses how they are read.
        router.subscriber(command.subject, decoder=_body, title=command.subject)(answer)

    def _sender(self, message: Msg) -> CommandSender:
        told = (message.headers or {}).get(_REQUEST_INFO)
        if not self._verified_senders or told is None:
            return CommandSender()
        try:
            info = json.loads(told)
            return CommandSender(str(info.get("name_tag") or info["user"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            return CommandSender()


class _AnswersOnly(BaseMiddleware):
    """Answers to inboxes only, and only while it is this process that answers."""

    def __init__(self, msg: Any, /, *, context: Any, answers: Callable[[], bool]) -> None:
        super().__init__(msg, context=context)
        self._answers = answers

    async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: Any) -> Any:
        """Call the handler, or leave the request to another process."""
        if not msg.reply_to.startswith(ANSWER_PREFIXES) or not self._answers():
            msg.reply_to = ""
            return None
        return await call_next(msg)


async def _body(message: Any) -> bytes:
    return bytes(message.body)


async def _answer(command: Command, handler: Handler, body: bytes, sender: CommandSender) -> BaseModel:
    """Carry a command out; return its answer, or the error."""
    try:
        return await handler(command.request.model_validate_json(body), sender)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors(include_input=False)
        )
        return _error(SaccadeError(ErrorCode.MALFORMED_REQUEST, wrong, hint="See the command in /asyncapi.json."))
    except SaccadeError as error:
        return _error(error)
    except Exception as error:  # otherwise who asks hears nothing
        log.exception("%s failed", command.subject)
        return _error(SaccadeError(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}"))


def _error(error: SaccadeError) -> CommandError:
    return CommandError(code=error.code.value, message=error.message, hint=error.hint)
