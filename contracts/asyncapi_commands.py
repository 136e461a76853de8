"""Commands in the AsyncAPI document: each is a channel with a request, and a channel for its answer."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from contracts.commands import COMMANDS, Command, CommandError

_CONTENT_TYPE: Final = "application/json"
_SCHEMAS: Final = "#/components/schemas/"


def command_name(command: Command) -> str:
    """Return the name of a command's channel: ``dispatcher.drain``."""
    return f"{command.service}.{command.verb}"


def answer_models(command: Command) -> tuple[type[BaseModel], ...]:
    """Return what a command is answered with: its own model, or an error."""
    return (command.answer, CommandError)


def command_messages() -> dict[str, Any]:
    """Return the messages of commands: each request by the command's name, each answer by its model's."""
    messages: dict[str, Any] = {}
    for command in COMMANDS:
        messages[command_name(command)] = _message(command.request, command.description)
        for model in answer_models(command):
            messages[model.__name__] = _message(model, (model.__doc__ or "").strip())
    return messages


def command_channels() -> dict[str, Any]:
    """Return the channel of each command's request, and of its answer, whose subject the sender names."""
    channels: dict[str, Any] = {}
    for command in COMMANDS:
        name = command_name(command)
        answers = {
            model.__name__: _reference("components", "messages", model.__name__) for model in answer_models(command)
        }
        channels[name] = {
            "address": command.subject,
            "title": name,
            "summary": command.description,
            "messages": {name: _reference("components", "messages", name)},
        }
        channels[_answer_name(command)] = {"address": None, "title": f"Answer to {name}", "messages": answers}
    return channels


def command_operations() -> dict[str, Any]:
    """Return ``<service>.command.<verb>``: a request that the service receives, and its reply."""
    operations: dict[str, Any] = {}
    for command in COMMANDS:
        name, answer = command_name(command), _answer_name(command)
        operations[f"{command.service}.command.{command.verb}"] = {
            "action": "receive",
            "summary": command.description,
            "channel": _reference("channels", name),
            "messages": [_reference("channels", name, "messages", name)],
            "reply": {
                "channel": _reference("channels", answer),
                "messages": [
                    _reference("channels", answer, "messages", model.__name__) for model in answer_models(command)
                ],
            },
        }
    return operations


def _answer_name(command: Command) -> str:
    return f"{command_name(command)}.answer"


def _message(model: type[BaseModel], summary: str) -> dict[str, Any]:
    return {
        "name": model.__name__,
        "summary": summary,
        "contentType": _CONTENT_TYPE,
        "payload": {"$ref": _SCHEMAS + model.__name__},
    }


def _reference(*place: str) -> dict[str, str]:
    return {"$ref": "#/" + "/".join(place)}
