"""Every event is made and heard somewhere, is described as it is, and never breaks a reader of yesterday."""

from __future__ import annotations

import copy
import functools
import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import jsonschema_rs
import pytest

from contracts.asyncapi import PUBLISHERS, SUBSCRIPTIONS, asyncapi_document, data_schema, event_types
from contracts.errors import ErrorCode, SaccadeError
from contracts.events import encode, subject_of
from contracts.events.job import JobFailed, JobProgressed, JobQueued
from docs.generate import Flow, breaks, event_flow, handlers, incompatible, subscriptions
from tests.rules.tree import ROOT, parsed, python_files


@functools.cache
def flow() -> dict[str, Flow]:
    """Read the code once, in the process that runs these tests: every process imports this file."""
    return event_flow()


def test_pages_and_schemas_are_fresh() -> None:
    check = [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"run `python docs/generate.py`:\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("name", list(event_types()))
def test_an_event_is_made_by_whom_the_document_says(name: str) -> None:
    makers = {"worker" if path.startswith("modal_workers/") else path.split("/")[1] for path in flow()[name].made}
    assert makers == set(PUBLISHERS[name])


@pytest.mark.parametrize("name", list(event_types()))
def test_an_event_is_heard(name: str) -> None:
    assert flow()[name].handled or flow()[name].listened


def test_no_handler_waits_for_an_event_that_does_not_exist() -> None:
    paths = [path for path in python_files("services") if path.rpartition("/")[2].startswith("on_")]
    assert paths
    waiting = {name for path in paths for name, _ in handlers(path, parsed(path))}
    assert waiting - event_types().keys() == set()


def test_services_listen_to_what_the_document_says() -> None:
    for service, patterns in SUBSCRIPTIONS.items():
        paths = [path for path in python_files("services") if path.startswith(f"services/{service}/")]
        assert {pattern for path in paths for pattern in subscriptions(parsed(path))} == set(patterns), service


def test_no_published_schema_was_broken() -> None:
    assert incompatible() == []


def _failed() -> dict[str, Any]:
    return copy.deepcopy(data_schema(JobFailed))


def test_removing_renaming_or_retyping_a_field_is_found() -> None:
    old = _failed()
    removed, renamed, retyped, optional = (_failed() for _ in range(4))
    del removed["properties"]["attempt"]
    renamed["properties"]["try"] = renamed["properties"].pop("attempt")
    retyped["properties"]["attempt"]["type"] = "string"
    optional["required"].remove("attempt")
    assert breaks(old, old) == []
    assert breaks(old, removed) == ["/properties/attempt is gone"]
    assert breaks(old, renamed) == ["/properties/attempt is gone"]
    assert breaks(old, retyped) == ["/properties/attempt/type: 'integer' became 'string'"]
    assert breaks(old, optional) == ["/required: 'attempt' is gone"]


def test_a_change_deep_inside_is_found_and_an_addition_is_not() -> None:
    old = _failed()
    inside, added = _failed(), _failed()
    inside["$defs"]["ErrorBody"]["properties"]["message"] = {"type": "integer"}
    added["properties"]["more"] = {"type": "string"}
    added["required"].append("more")
    added["$defs"]["ErrorCode"]["enum"].append("another_error")
    assert breaks(old, inside) == ["/$defs/ErrorBody/properties/message/type: 'string' became 'integer'"]
    assert breaks(old, added) == []


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [reference for one in value.values() for reference in _references(one)]
    return [reference for one in value for reference in _references(one)] if isinstance(value, list) else []


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = asyncapi_document()
    references = _references(document)
    assert references
    for reference in references:
        place: Any = document
        for part in reference.removeprefix("#/").split("/"):
            assert part in place, reference
            place = place[part]


def _payload_schema(name: str) -> dict[str, Any]:
    document = asyncapi_document()
    return {**document["components"]["messages"][name]["payload"], "components": document["components"]}


@pytest.mark.parametrize(
    "data",
    [
        JobQueued(position=3),
        JobProgressed(attempt=1, run_id="run_1", stage="align", fraction=0.5, stage_fraction=0.2),
        JobFailed(attempt=2, failure="user", error=SaccadeError(ErrorCode.CLIP_STATIC).body()),
    ],
)
def test_what_is_published_fits_the_document(data: Any) -> None:
    now = datetime.now(UTC)
    message = encode(data, tenant="acme", subject_id="job_1", source="/dispatcher", time=now)
    validator = jsonschema_rs.Draft202012Validator(_payload_schema(data.type))
    sent = json.loads(message.body)
    validator.validate(sent)
    noun, _, verb = data.type.partition(".")
    address = asyncapi_document()["channels"][data.type]["address"]
    assert address.format(tenant="acme", id="job_1") == message.subject
    assert message.subject == subject_of(data.kind, "acme", noun, "job_1", verb)
    sent["data"]["attempt" if "attempt" in sent["data"] else "position"] = "many"
    assert not validator.is_valid(sent)
