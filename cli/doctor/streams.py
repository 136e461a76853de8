"""Comparison of the streams with contracts/streams.py: configuration, room, nodes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from cli.doctor.report_line import ReportLine, fail, ok, warn
from contracts.limits import GIB, MIB
from contracts.streams import STREAMS, Stream
from kit.bus.connection import stream_config

_NS: Final = 1_000_000_000
_FULL_SHARE: Final = 0.9
#: What JetStream never changes in a stream that exists.
_FIXED: Final = frozenset({"retention", "storage"})
_BYTES: Final = frozenset({"max_bytes", "max_msg_size"})
_TIMES: Final = frozenset({"max_age", "duplicate_window"})
#: What one stream says of itself, by its name; None: there is no such stream.
Infos = Mapping[str, Mapping[str, Any] | None]


def reserved_bytes(replicas: int = 1) -> int:
    """Return what all streams may take together."""
    return sum(stream.max_bytes for stream in STREAMS) * replicas


def judge_streams(infos: Infos, replicas: int) -> list[ReportLine]:
    """Return which streams are missing, and which are not configured as they should be."""
    missing = [name for name, info in infos.items() if info is None]
    if len(missing) == len(infos):
        return [fail("bus streams", "there are none", "Start the services: they create the streams.")]
    found = []
    if missing:
        fix = "Restart a service, which creates them, and read its log if they stay missing: the disk may be too small."
        found.append(fail("bus streams", f"missing: {', '.join(missing)}", fix))
    differing = {
        stream.name: of
        for stream in STREAMS
        if (info := infos.get(stream.name)) and (of := differences(stream, info["config"], replicas))
    }
    # One line for all that have the same fault: a wrong NATS_REPLICAS is a fault of every stream.
    faults = dict.fromkeys(tuple(of.items()) for of in differing.values())
    found += [
        _judge_differences([name for name, of in differing.items() if tuple(of.items()) == fault], dict(fault))
        for fault in faults
    ]
    if not found:
        found.append(ok("bus streams", f"all {len(infos)} are configured as this version wants"))
    return found + [_judge_room(stream, info) for stream in STREAMS if (info := infos.get(stream.name)) and _full(info)]


def differences(stream: Stream, config: Mapping[str, Any], replicas: int) -> dict[str, str]:
    """Return what of a stream's configuration is not as declared: the field, and both values."""
    if config.get("sealed"):
        return {}  # a window of another system that was imported
    wanted = stream_config(stream, replicas)
    if config.get("persist_mode") is None:
        wanted.pop("persist_mode", None)  # it had replicas: it stays safer than it has to be
    return {
        name: f"{name} is {_shown(name, config.get(name))} instead of {_shown(name, value)}"
        for name, value in wanted.items()
        if config.get(name) != value and (config.get(name) or value)
    }


def _judge_differences(names: Sequence[str], differing: Mapping[str, str]) -> ReportLine:
    fix = "Restart a service of this version: it changes the stream back."
    if _FIXED & set(differing):
        fix = "Make a backup, delete the stream, start the services and restore it: NATS changes this in no stream."
    elif set(differing) == {"num_replicas"}:
        fix = "Set the same NATS_REPLICAS here and for every service, and restart the services."
    return fail("bus streams", f"{', '.join(names)}: {'; '.join(differing.values())}", fix)


def _full(info: Mapping[str, Any]) -> bool:
    limit = info["config"].get("max_bytes", -1)
    # A stream that deletes its oldest messages is full as a rule.
    refuses = limit > 0 and info["config"].get("discard") == "new"
    return bool(refuses and info["state"]["bytes"] >= _FULL_SHARE * limit)


def _judge_room(stream: Stream, info: Mapping[str, Any]) -> ReportLine:
    share = info["state"]["bytes"] / info["config"]["max_bytes"]
    says = f"{stream.name} is {100 * share:.0f} % full, and refuses messages when it is full"
    return warn("bus streams", says, "Find out what writes so much: docs/scale.md says what is usual.")


def judge_quorum(infos: Infos, nodes: int) -> list[ReportLine]:
    """Return whether every stream of a cluster has a leader and its replicas."""
    groups = {name: info["cluster"] for name, info in infos.items() if info and "cluster" in info}
    leaderless = [name for name, group in groups.items() if not group.get("leader")]
    if leaderless:
        fix = "Start the other nodes: more than half of a stream's replicas have to run."
        return [fail("bus cluster", f"no node leads {', '.join(leaderless)}", fix)]
    offline = {peer["name"] for group in groups.values() for peer in group.get("replicas", ()) if peer.get("offline")}
    if offline:
        fix = "Start it: until then no further node may fail."
        return [warn("bus cluster", f"offline: {', '.join(sorted(offline))}", fix)]
    behind = sorted(
        name for name, group in groups.items() if any(not peer.get("current") for peer in group.get("replicas", ()))
    )
    if behind:
        fix = "Wait until the nodes have caught up before another one is restarted."
        return [warn("bus cluster", f"a replica is behind in {', '.join(behind)}", fix)]
    copies = max((info["config"].get("num_replicas", 1) for info in infos.values() if info), default=1)
    if copies == 1 and nodes > 1:
        fix = "Set NATS_REPLICAS=3 for every service: a node that is lost takes its streams with it."
        return [warn("bus cluster", f"{nodes} nodes, and one copy of each stream", fix)]
    return [ok("bus cluster", f"{nodes} nodes; every stream has a leader and {copies} current replicas")]


def judge_limits(account: Mapping[str, Any], max_payload: int, message_bytes: int, replicas: int) -> list[ReportLine]:
    """Return whether account and server take what the streams reserve, and the largest message."""
    found = []
    if max_payload < message_bytes:
        says = f"messages of {_size(message_bytes)} are refused, the server takes {_size(max_payload)}"
        found.append(fail("bus limits", says, "Set max_payload: 1MB in the configuration of nats-server."))
    storage, wanted = account.get("limits", {}).get("max_storage", -1), reserved_bytes(replicas)
    if 0 <= storage < wanted:
        says = f"the account may store {_size(storage)}, and the streams reserve {_size(wanted)}"
        fix = "Raise max_file of the account (in operator mode its disk storage), and the disk of the server with it."
        found.append(fail("bus limits", says, fix))
    streams = account.get("limits", {}).get("max_streams", -1)
    if 0 <= streams < len(STREAMS):
        says = f"the account may have {streams} streams, and Saccade has {len(STREAMS)}"
        found.append(fail("bus limits", says, "Raise max_streams of the account."))
    return found or [ok("bus limits", f"the account takes the {_size(wanted)} that the streams may grow to")]


def _shown(name: str, value: Any) -> str:
    if name in _BYTES and isinstance(value, int) and value > 0:
        return _size(value)
    if name in _TIMES and isinstance(value, int):
        return f"{value // _NS} s"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "not set" if value in (None, "") else str(value)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / GIB:.4g} GiB" if size_bytes >= GIB else f"{size_bytes / MIB:.4g} MiB"
