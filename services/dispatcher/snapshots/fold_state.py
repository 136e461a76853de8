"""Everything that a dispatcher has folded from the stream of events, as values that are stored line by line. Pure.

What a process has besides (heartbeats, slots, timers, reservations that are not stored yet) begins anew with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Final

from pydantic import TypeAdapter

from contracts.budget import Budget
from contracts.job import Job
from contracts.rule import Rule
from contracts.spending import Account
from services.dispatcher.rules.upload_group import UploadGroup


@dataclass(frozen=True)
class FoldState:
    """Values by kind, each kind in the order in which the dispatcher holds it."""

    job: tuple[Job, ...] = ()
    #: Ended jobs of the stages of unfinished pipelines.
    ended_stage_job: tuple[Job, ...] = ()
    #: Job and tenant.
    unloaded: tuple[tuple[str, str], ...] = ()
    rule: tuple[Rule, ...] = ()
    group: tuple[UploadGroup, ...] = ()
    #: Upload, and the groups that have it.
    group_upload: tuple[tuple[str, tuple[str, ...]], ...] = ()
    #: Rule, value, number and sequence.
    last_closed: tuple[tuple[str, str, int, int], ...] = ()
    failed_upload: tuple[str, ...] = ()
    #: Tenant, SHA-256 and job.
    artifact: tuple[tuple[str, str, str], ...] = ()
    #: Sequence of the newest completed upload.
    completed_upload: tuple[int, ...] = ()
    budget: tuple[Budget, ...] = ()
    #: Tenant and account.
    account: tuple[tuple[str, Account], ...] = ()

    @property
    def reached(self) -> int:
        """Newest sequence in it: an event that this process has published is in a job before it is folded."""
        sequences = [job.sequence for job in (*self.job, *self.ended_stage_job)]
        return max([*sequences, *(group.sequence for group in self.group)], default=0)


_ADAPTERS: Final[dict[str, TypeAdapter[Any]]] = {
    "job": TypeAdapter(Job),
    "ended_stage_job": TypeAdapter(Job),
    "unloaded": TypeAdapter(tuple[str, str]),
    "rule": TypeAdapter(Rule),
    "group": TypeAdapter(UploadGroup),
    "group_upload": TypeAdapter(tuple[str, tuple[str, ...]]),
    "last_closed": TypeAdapter(tuple[str, str, int, int]),
    "failed_upload": TypeAdapter(str),
    "artifact": TypeAdapter(tuple[str, str, str]),
    "completed_upload": TypeAdapter(int),
    "budget": TypeAdapter(Budget),
    "account": TypeAdapter(tuple[str, Account]),
}


def encode_lines(state: FoldState) -> Iterator[bytes]:
    """Yield a line for each value: its kind, a space, and its JSON."""
    for kind in (declared.name for declared in fields(FoldState)):
        adapter, prefix = _ADAPTERS[kind], f"{kind} ".encode()
        for value in getattr(state, kind):
            yield prefix + adapter.dump_json(value) + b"\n"


def decode_lines(lines: Iterable[bytes]) -> FoldState:
    """Return the state that was encoded.

    Raises:
        ValueError: a line is none of this version.
    """
    found: dict[str, list[Any]] = {declared.name: [] for declared in fields(FoldState)}
    for line in lines:
        kind, _, encoded = line.partition(b" ")
        if (values := found.get(kind.decode(errors="replace"))) is None:
            raise ValueError(f"unknown kind {kind[:40]!r}")
        values.append(_ADAPTERS[kind.decode()].validate_json(encoded))
    return FoldState(**{kind: tuple(values) for kind, values in found.items()})
