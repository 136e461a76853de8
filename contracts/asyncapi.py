"""AsyncAPI document of the events and commands, from their classes and the tables of streams and commands.

Publishers, subscribers and reactions are listed here for external readers; tests compare the lists with the code.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import contracts.events  # noqa: F401 - registers every event class
from contracts.asyncapi_commands import answer_models, command_channels, command_messages, command_operations
from contracts.commands import COMMANDS
from contracts.consumers import consumer_name
from contracts.events.base import (
    ADVISORY,
    CONTENT_TYPE,
    DURABLE,
    EVENT_CLASSES,
    RECORD,
    Envelope,
    EventData,
    subject_of,
)
from contracts.ids import TENANT_PATTERN
from contracts.streams import DELIVERIES, EVENTS, LIVE_DELIVERIES, LIVE_EVENTS, LIVE_PROGRESS, PROGRESS, Stream

#: Processes that publish each event.
PUBLISHERS: Final[dict[str, tuple[str, ...]]] = {
    "upload.created": ("gateway",),
    "upload.completed": ("gateway",),
    "upload.failed": ("gateway",),
    "rule.created": ("gateway",),
    "rule.updated": ("gateway", "dispatcher"),
    "rule.deleted": ("gateway",),
    "rule.skipped": ("dispatcher",),
    "group.upload_added": ("dispatcher",),
    "group.closed": ("dispatcher",),
    "job.submitted": ("gateway", "dispatcher"),
    "job.queued": ("dispatcher",),
    "job.starting": ("dispatcher",),
    "job.launched": ("dispatcher",),
    "job.waiting_for_gpu": ("dispatcher",),
    "job.started": ("worker", "dispatcher"),
    "job.progressed": ("worker", "dispatcher"),
    "job.artifact_ready": ("worker", "dispatcher"),
    "job.stage_completed": ("worker", "dispatcher"),
    "job.interrupted": ("worker", "dispatcher"),
    "job.retrying": ("dispatcher", "gateway"),
    "job.cancel_requested": ("gateway", "dispatcher"),
    "job.succeeded": ("worker", "dispatcher"),
    "job.failed": ("dispatcher",),
    "job.cancelled": ("dispatcher",),
    "job.retention_changed": ("gateway",),
    "job.scratch_removed": ("dispatcher",),
    "job.results_retention_changed": ("gateway",),
    "job.results_expired": ("gateway",),
    "job.results_removed": ("gateway",),
    "session.opened": ("gateway",),
    "session.ready": ("worker",),
    "session.started": ("worker",),
    "session.stop_requested": ("gateway",),
    "session.reset_requested": ("gateway",),
    "session.frame_acked": ("worker",),
    "session.progressed": ("worker",),
    "session.chunk_exported": ("worker",),
    "session.text": ("worker",),
    "session.text_delta": ("worker",),
    "session.alert": ("worker",),
    "session.prompt_requested": ("gateway",),
    "session.cancel_requested": ("gateway",),
    "session.stopped": ("gateway",),
    "session.failed": ("gateway",),
    "budget.set": ("gateway", "dispatcher"),
    "budget.removed": ("gateway",),
    "erasure.completed": ("dispatcher",),
    "budget.warned": ("dispatcher",),
    "budget.exhausted": ("dispatcher",),
    "webhook.delivered": ("notifier",),
    "webhook.failed": ("notifier",),
    "webhook.redelivery_requested": ("notifier",),
    "replay.delivery_attempted": ("notifier",),
    "webhook.disabled": ("notifier",),
}
#: Subjects that each service subscribes to.
SUBSCRIPTIONS: Final[dict[str, tuple[str, ...]]] = {
    "gateway": (LIVE_EVENTS, "live.saccade.prog.*.job.*.progressed", "live.saccade.prog.*.session.*.*"),
    "dispatcher": (LIVE_EVENTS, "saccade.prog.*.job.*.progressed"),
    "notifier": (LIVE_EVENTS, LIVE_PROGRESS, LIVE_DELIVERIES),
}
#: Events that each service reacts to, each by a durable consumer of its own.
REACTIONS: Final[dict[str, tuple[str, ...]]] = {"dispatcher": ("upload.completed",)}

_SCHEMAS: Final = "#/components/schemas/"
_INTRODUCTION: Final = (
    "Every event is a CloudEvent 1.0 in structured JSON, encoded once: the bytes on NATS, in the `data:` line of a "
    "server-sent event and in the body of a webhook are the same. Durable events (`saccade.evt.…`) are never lost and "
    "have a position in one order, the cursor `<epoch>.<sequence>`; advisory events (`saccade.prog.…`) are progress: "
    "only the newest matters. Fields may be added: ignore unknown fields. Commands (`saccade.cmd.…`) are operators' "
    "requests, answered by the command's own model or by a `CommandError`."
)


def event_types() -> dict[str, type[EventData]]:
    """Return every event class by its type: uploads first, then jobs, sessions, and the others."""
    order = {"upload": 0, "job": 1, "session": 2}
    return dict(sorted(EVENT_CLASSES.items(), key=lambda item: order.get(item[0].partition(".")[0], len(order))))


def stream_of(event: type[EventData]) -> Stream:
    """Return the stream that stores an event."""
    return {DURABLE: EVENTS, ADVISORY: PROGRESS, RECORD: DELIVERIES}[event.kind]


def address_of(event: type[EventData]) -> str:
    """Return the subject of an event with its parameters in braces: ``saccade.evt.{tenant}.job.{id}.started``."""
    noun, _, verb = event.type.partition(".")
    return subject_of(event.kind, "{tenant}", noun, "{id}", verb)


def carries(pattern: str, event: type[EventData]) -> bool:
    """Return whether a subscription (wildcards allowed) to subjects or their live copies receives an event."""
    tokens = pattern.removeprefix("live.").split(".")
    subject = address_of(event).split(".")
    if tokens[-1] == ">" and len(tokens) <= len(subject):
        tokens = tokens[:-1] + ["*"] * (len(subject) - len(tokens) + 1)
    return len(tokens) == len(subject) and all(
        token in ("*", other) for token, other in zip(tokens, subject, strict=True)
    )


def summary_of(event: type[EventData]) -> str:
    """Return the first paragraph of an event's docstring in one line."""
    return " ".join((event.__doc__ or "").strip().split("\n\n")[0].split())


def data_schema(event: type[EventData]) -> dict[str, Any]:
    """Return the JSON Schema of an event's data, with all referenced definitions included."""
    return event.model_json_schema(mode="validation")


def asyncapi_document() -> dict[str, Any]:
    """Return the AsyncAPI document of every event, subject and stream.

    Source: AsyncAPI 3.0.0; CloudEvents 1.0.2.
    """
    events = event_types()
    commanded = [model for command in COMMANDS for model in (command.request, *answer_models(command))]
    models: list[type[BaseModel]] = [Envelope, *events.values(), *dict.fromkeys(commanded)]
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=_SCHEMAS + "{model}")
    schemas = dict(sorted(definitions["$defs"].items()))
    for event in events.values():
        schemas[event.__name__]["description"] = summary_of(event)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Saccade events",
            "version": "1.0.0",
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {name: _channel(event) for name, event in events.items()} | command_channels(),
        "operations": _operations(events) | command_operations(),
        "components": {
            "messages": {name: _message(event) for name, event in events.items()} | command_messages(),
            "schemas": schemas,
        },
    }


def _channel(event: type[EventData]) -> dict[str, Any]:
    stream = stream_of(event)
    noun = event.type.partition(".")[0]
    identity = f"Id of the {noun}, a UUIDv7 with a short prefix."
    return {
        "address": address_of(event),
        "title": event.type,
        "summary": summary_of(event),
        "parameters": {
            "tenant": {"description": f"Tenant that owns it; matches {TENANT_PATTERN}."},
            "id": {"description": "Name of the tenant, which has one budget." if noun == "budget" else identity},
        },
        "messages": {event.type: {"$ref": f"#/components/messages/{event.type}"}},
        "x-stream": {
            "name": stream.name,
            "durable": event.kind != ADVISORY,
            "max_age_s": stream.max_age_s,
            "max_message_bytes": stream.max_message_bytes,
            "live_copies": f"{stream.republish}.{address_of(event)}",
        },
    }


def _message(event: type[EventData]) -> dict[str, Any]:
    return {
        "name": event.type,
        "title": event.type,
        "summary": summary_of(event),
        "contentType": CONTENT_TYPE,
        "payload": {
            "allOf": [
                {"$ref": _SCHEMAS + Envelope.__name__},
                {
                    "type": "object",
                    "properties": {
                        "type": {"const": event.type},
                        "data": {"$ref": _SCHEMAS + event.__name__},
                    },
                },
            ]
        },
    }


def _operations(events: dict[str, type[EventData]]) -> dict[str, Any]:
    """Return the operations of each process, as ``<process>.send.<event>`` and ``<process>.receive.<event>``."""
    operations: dict[str, Any] = {}
    for name in events:
        for process in PUBLISHERS[name]:
            operations[f"{process}.send.{name}"] = _operation("send", name, f"The {process} publishes {name}.")
    for service, patterns in SUBSCRIPTIONS.items():
        for name, event in events.items():
            if any(carries(pattern, event) for pattern in patterns):
                operations[f"{service}.receive.{name}"] = _operation("receive", name, f"The {service} receives {name}.")
    for service, names in REACTIONS.items():
        for name in names:
            operation = _operation("receive", name, f"The {service} reacts to each {name}, until that is done.")
            operations[f"{service}.react.{name}"] = operation | {"x-consumer": consumer_name(service, name)}
    return operations


def _operation(action: str, name: str, summary: str) -> dict[str, Any]:
    # A JSON pointer in a reference; no event type contains a character that needs escaping.
    channel = f"#/channels/{name}"
    return {
        "action": action,
        "summary": summary,
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{name}"}],
    }
