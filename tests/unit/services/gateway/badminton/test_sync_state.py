"""The sync protocol of Convex clients, without sockets: versions, timestamps, what is sent again and what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.gateway.compat.badminton.sync.messages import (
    Connect,
    FunctionCall,
    ModifyQuerySet,
    ProtocolViolation,
    decode_timestamp,
    encode_timestamp,
    function_name,
    parse_message,
)
from services.gateway.compat.badminton.sync.remembered_requests import RememberedRequests
from services.gateway.compat.badminton.sync.sync_state import Failed, Returned, SyncState

NOW = 1_700_000_000_000_000_000
CONNECT = {"type": "Connect", "sessionId": "s", "connectionCount": 0, "lastCloseReason": None, "clientTs": 1}


def connected(**more: Any) -> SyncState:
    state = SyncState()
    connect = parse_message(json.dumps(CONNECT | more))
    assert isinstance(connect, Connect)
    state.connect(connect, NOW)
    return state


def modify(state: SyncState, base: int, *changes: dict[str, Any]) -> None:
    message = parse_message(
        json.dumps({"type": "ModifyQuerySet", "baseVersion": base, "newVersion": base + 1, "modifications": changes})
    )
    assert isinstance(message, ModifyQuerySet)
    state.modify(message)


def add(query_id: int, **args: Any) -> dict[str, Any]:
    return {"type": "Add", "queryId": query_id, "udfPath": "videos:getVideo", "args": [args]}


def call(kind: str, request_id: int = 1) -> FunctionCall:
    text = {"type": kind, "requestId": request_id, "udfPath": "videos:createVideo", "args": [{}]}
    message = parse_message(json.dumps(text))
    assert isinstance(message, FunctionCall)
    return message


def timestamp(version: dict[str, Any]) -> int:
    return decode_timestamp(version["ts"])


def test_each_transition_starts_where_the_last_one_ended() -> None:
    state = connected()
    modify(state, 0, add(0, videoId="a"))
    first = state.transition({0: Returned("one")}, NOW)
    assert first
    assert first["startVersion"] == {"querySet": 0, "identity": 0, "ts": encode_timestamp(0)}
    assert first["endVersion"]["querySet"] == 1
    assert first["modifications"] == [
        {"type": "QueryUpdated", "queryId": 0, "value": "one", "logLines": [], "journal": None}
    ]
    assert state.transition({0: Returned("one")}, NOW) is None, "nothing has changed"
    second = state.transition({0: Returned("two")}, NOW)
    assert second
    assert second["startVersion"] == first["endVersion"]
    assert timestamp(second["endVersion"]) > timestamp(first["endVersion"]), "although the clock stands still"


def test_only_what_changed_is_sent_and_what_was_removed() -> None:
    state = connected()
    modify(state, 0, add(0), add(1), add(2))
    assert state.transition({0: Returned(1), 1: Failed("no"), 2: None}, NOW)
    modify(
        state, 1, {"type": "Remove", "queryId": 0}, {"type": "Remove", "queryId": 2}, {"type": "Remove", "queryId": 9}
    )
    changed = state.transition({1: Failed("no")}, NOW)
    assert changed
    assert changed["modifications"] == [{"type": "QueryRemoved", "queryId": 0}], "the client never had 2"
    changed = state.transition({1: Returned([])}, NOW)
    assert changed
    assert [one["type"] for one in changed["modifications"]] == ["QueryUpdated"]


def test_a_query_without_an_outcome_keeps_its_value_and_is_sent_later() -> None:
    state = connected()
    modify(state, 0, add(0), add(1))
    first = state.transition({0: Returned(1), 1: None}, NOW)
    assert first
    assert [one["queryId"] for one in first["modifications"]] == [0]
    assert state.transition({0: None, 1: None}, NOW) is None
    later = state.transition({0: None, 1: Returned(2)}, NOW)
    assert later
    assert [one["queryId"] for one in later["modifications"]] == [1]


def test_a_mutation_is_completed_by_a_transition_that_is_not_earlier() -> None:
    state = connected()
    modify(state, 0, add(0))
    assert state.transition({0: Returned(1)}, NOW)
    first = state.respond(call("Mutation", 1), Returned("made"), NOW)
    second = state.respond(call("Mutation", 2), Returned("made"), NOW - 5_000_000_000)
    completing = state.transition({0: Returned(1)}, NOW - 9_000_000_000)
    assert completing, "also where no query has changed and the clock went back"
    assert completing["modifications"] == []
    assert timestamp(completing["endVersion"]) >= decode_timestamp(second["ts"]) >= decode_timestamp(first["ts"])
    assert (first["success"], first["result"], first["requestId"]) == (True, "made", 1)
    assert state.transition({0: Returned(1)}, NOW) is None, "once"


def test_a_failure_and_an_action_need_no_transition() -> None:
    state = connected()
    modify(state, 0)
    assert state.transition({}, NOW)
    failed = state.respond(call("Mutation"), Failed("x" * 9999), NOW)
    assert (failed["success"], len(failed["result"]), "ts" in failed) == (False, 500, False)
    done = state.respond(call("Action"), Returned(None), NOW)
    assert (done["type"], done["success"], "ts" in done) == ("ActionResponse", True, False)
    assert state.transition({}, NOW) is None


def test_timestamps_continue_after_those_of_another_gateway_whose_clock_is_ahead() -> None:
    ahead = NOW + 60_000_000_000
    state = connected(maxObservedTimestamp=encode_timestamp(ahead))
    modify(state, 0)
    transition = state.transition({}, NOW)
    assert transition
    assert timestamp(transition["endVersion"]) > ahead
    last = (1 << 64) - 1  # a client cannot exhaust the 64 bits
    state = connected(maxObservedTimestamp=encode_timestamp(last))
    modify(state, 0)
    transition = state.transition({}, NOW)
    assert transition
    assert timestamp(transition["endVersion"]) == NOW


def test_a_change_of_identity_is_confirmed() -> None:
    state = connected()
    modify(state, 0)
    assert state.transition({}, NOW)
    message = parse_message('{"type":"Authenticate","tokenType":"None","baseVersion":0}')
    state.authenticate(message)  # type: ignore[arg-type]
    confirmed = state.transition({}, NOW)
    assert confirmed
    assert confirmed["endVersion"]["identity"] == 1
    with pytest.raises(ProtocolViolation):
        state.authenticate(message)  # type: ignore[arg-type]


def test_what_the_protocol_does_not_allow_is_refused() -> None:
    with pytest.raises(ProtocolViolation, match="not Connect"):
        modify(SyncState(), 0)
    state = connected()
    with pytest.raises(ProtocolViolation, match="at 0"):
        modify(state, 1)
    with pytest.raises(ProtocolViolation, match="at most 100"):
        modify(state, 0, *(add(number) for number in range(101)))
    with pytest.raises(ProtocolViolation, match="twice"):
        state.connect(Connect(type="Connect", sessionId="s"), NOW)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"type":"Nothing"}',
        '{"type":"Mutation","requestId":-1,"udfPath":"a:b","args":[]}',
        '{"type":"Connect","sessionId":' + "9" * 10 + "}",
        '{"type":"Connect","sessionId":"' + "x" * 101 + '"}',
        "[" * 100_000,
    ],
)
def test_what_is_no_message_is_refused(text: str) -> None:
    with pytest.raises(ProtocolViolation):
        parse_message(text)


def test_a_token_is_not_kept() -> None:
    message = parse_message('{"type":"Authenticate","tokenType":"User","value":"secret","baseVersion":0}')
    assert "secret" not in repr(message)


def test_names_of_functions() -> None:
    assert [function_name(path) for path in ("videos:getVideo", "videos.js:getVideo", "videos")] == [
        "videos:getVideo",
        "videos:getVideo",
        "videos:default",
    ]


def test_a_mutation_that_is_sent_again_has_the_outcome_of_the_first_time() -> None:
    remembered = RememberedRequests()
    remembered.remember("t", "s", 1, "videos:createVideo", Returned("a"))
    assert remembered.recall("t", "s", 1, "videos:createVideo") == Returned("a")
    for key in (("u", "s", 1, "videos:createVideo"), ("t", "z", 1, "videos:createVideo"), ("t", "s", 2, "videos:x")):
        assert remembered.recall(*key) is None
    for number in range(2, 40):
        remembered.remember("t", "s", number, "videos:createVideo", Returned(number))
    assert remembered.recall("t", "s", 1, "videos:createVideo") is None, "memory is bounded"
    assert remembered.recall("t", "s", 39, "videos:createVideo") == Returned(39)
