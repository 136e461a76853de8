"""The AsyncAPI document says which events are reacted to and which commands are answered: exactly those of the code."""

from __future__ import annotations

import ast
import functools
import importlib
from collections import defaultdict
from typing import get_type_hints

from faststream.nats import NatsBroker
from faststream.specification import AsyncAPI
from saccade_events import Reactions

from contracts.asyncapi import REACTIONS, asyncapi_document
from contracts.commands import COMMANDS, DISPATCHER, CommandError
from services.dispatcher import app as dispatcher
from services.dispatcher.commands.operator_commands import OperatorCommands
from tests.rules.tree import nodes, python_files


def _makes_reactions(path: str) -> bool:
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == Reactions.__name__
        for node in nodes(path)
    )


@functools.cache
def declared() -> list[Reactions]:
    """Return every Reactions of the services, from the modules that make one."""
    modules = [
        path.removesuffix(".py").replace("/", ".") for path in python_files("services") if _makes_reactions(path)
    ]
    assert modules
    return [value for name in modules for value in vars(importlib.import_module(name)).values()
            if isinstance(value, Reactions)]  # fmt: skip


def test_the_document_has_the_reactions_of_the_code_and_no_others() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for reactions in declared():
        found[reactions.service] += [reaction.event.type for reaction in reactions.declarations]
    assert {service: sorted(names) for service, names in found.items()} == {
        service: sorted(names) for service, names in REACTIONS.items()
    }
    operations = asyncapi_document()["operations"]
    consumers = {operation["x-consumer"] for operation in operations.values() if "x-consumer" in operation}
    assert consumers == {reaction.consumer for reactions in declared() for reaction in reactions.declarations}


def test_what_is_declared_runs() -> None:
    assert set(map(id, dispatcher.REACTIONS)) == {id(one) for one in declared() if one.service == "dispatcher"}


def test_faststream_sees_the_channels_of_the_document() -> None:
    """Its own document of the same routers: what it subscribes to is what ours says, by name and subject."""
    channels = asyncapi_document()["channels"]
    broker = NatsBroker(routers=[reactions.router() for reactions in declared()])
    subscribed = AsyncAPI(broker).to_specification().to_jsonable()["channels"]
    assert subscribed
    for name, channel in subscribed.items():
        assert channel["address"] == channels[name]["address"]


def test_each_command_of_the_document_is_a_method_with_its_models() -> None:
    methods = {name: method for name, method in vars(OperatorCommands).items() if not name.startswith("_")}
    hints = {name: get_type_hints(method) for name, method in methods.items()}
    assert {(name, hint["return"]) for name, hint in hints.items()} == {(one.verb, one.answer) for one in COMMANDS}
    for command in COMMANDS:
        assert command.service == DISPATCHER, "another service's commands: say here which class carries them out"
        assert command.request in hints[command.verb].values()


def test_the_document_has_each_command_with_its_answers() -> None:
    document = asyncapi_document()
    commands = {name: one for name, one in document["operations"].items() if "reply" in one}
    assert set(commands) == {f"{command.service}.command.{command.verb}" for command in COMMANDS}
    for command in COMMANDS:
        name = f"{command.service}.{command.verb}"
        assert document["channels"][name]["address"] == command.subject
        payload = document["components"]["messages"][name]["payload"]
        assert payload == {"$ref": f"#/components/schemas/{command.request.__name__}"}
        reply = commands[f"{command.service}.command.{command.verb}"]["reply"]
        answers = [message["$ref"].rpartition("/")[2] for message in reply["messages"]]
        assert answers == [command.answer.__name__, CommandError.__name__]
