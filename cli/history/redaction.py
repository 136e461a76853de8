"""Redaction of events: names, addresses, metadata and free text become keyed hashes; ids, numbers and states stay.

The key is made for one file and never stored: equal text has equal hashes within a file, so that relations stay, and
nobody can try words against them. What is kept is decided by the schemas of the events and the allow-list of
kept_fields.py: a field that a newer version adds is redacted until somebody lists it. Pure but for the key.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import json
import re
import secrets
import types
import typing
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import AwareDatetime, BaseModel

from cli.history.kept_fields import KEPT, WORDS, Form
from contracts.errors import KINDS
from contracts.events.base import EVENT_CLASSES, Envelope, subject_of
from contracts.events.rule import METADATA_FIELD
from contracts.gpu_ladder import GPUS
from contracts.ids import Prefix
from kit.auth.api_keys import LOCAL_TENANT

#: Beginning of a hash: it is valid where ids of tenants, names of stages, files and metadata are.
REDACTED: Final = "redacted_"
_HASH_DIGITS: Final = 20
_UUID: Final = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_PLAIN_ID: Final = re.compile(rf"(?:{'|'.join(get_args(Prefix))})_{_UUID}")
_STAGE_ID: Final = re.compile(rf"(stg_{_UUID})-([a-z][a-z0-9_]*)-([0-9]{{3}})")
#: Further parts of an event's id: verbs and numbers.
_SUFFIXES: Final = frozenset({verb for kind in EVENT_CLASSES for verb in kind.split(".")} | {"claimed"})
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_VERSION: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){0,3}")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d))?")
_TRACE: Final = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_TIMES: Final = (date, datetime, AwareDatetime)
_SUBJECT_KINDS: Final = frozenset({"evt", "prog", "dlv"})


class Redactor:
    """Redacts the events of one file."""

    def __init__(self, words: Iterable[str] = ()) -> None:
        """``words``: names of workloads, stages and inputs that are no secret, because every installation has them."""
        self._key = secrets.token_bytes(32)
        hints = {text for kind in KINDS.values() for text in (kind.title, kind.hint)}
        self._words = WORDS | frozenset(words) | frozenset(GPUS) | frozenset(EVENT_CLASSES) | hints

    def hash(self, text: str) -> str:
        """Return the hash that stands for a text in this file."""
        return REDACTED + self._digest(text)[:_HASH_DIGITS]

    def event(self, subject: str, body: bytes) -> tuple[str, bytes]:
        """Return the subject and the bytes of an event, redacted."""
        kind = subject.split(".")[1] if subject.count(".") == 5 else ""
        try:
            envelope = json.loads(body)
        except ValueError:
            envelope = None
        if not isinstance(envelope, dict) or kind not in _SUBJECT_KINDS:
            # Not one of our events: nothing of it is known.
            tokens = ".".join(self.hash(token) for token in subject.split("."))
            return f"saccade.evt.{tokens}", json.dumps({"redacted": self.hash(body.hex())}).encode()
        redacted = self._envelope(envelope)
        noun, _, verb = str(redacted.get("type", "")).partition(".")
        fields = [str(redacted.get(name) or self.hash("")) for name in ("tenant", "subject")]
        moved = subject_of(kind, fields[0], noun, fields[1], verb)
        return moved, json.dumps(redacted, separators=(",", ":"), ensure_ascii=False).encode()

    def event_id(self, event_id: str) -> str:
        """Return the id of an event, as it is or hashed."""
        return self._formed(Form.ID, event_id)

    def _envelope(self, envelope: dict[str, Any]) -> dict[str, Any]:
        name = envelope.get("type")
        known = EVENT_CLASSES.get(name) if isinstance(name, str) else None
        outer = {field: value for field, value in envelope.items() if field not in ("type", "data", "traceparent")}
        redacted = self._model(Envelope, outer)
        redacted["type"] = name if known else ".".join(map(self.hash, str(name).partition(".")[::2]))
        traced = envelope.get("traceparent")
        if isinstance(traced, str) and _TRACE.fullmatch(traced):
            redacted["traceparent"] = traced
        data = envelope.get("data")
        redacted["data"] = self._model(known, data) if known and isinstance(data, dict) else self._value(Any, data)
        return redacted

    def _model(self, model: type[BaseModel], value: Mapping[str, Any]) -> dict[str, Any]:
        kept = KEPT.get(model, {})
        fields = model.model_fields
        return {
            name if name in fields else self._key_of(name): self._value(
                fields[name].annotation if name in fields else Any, inner, kept.get(name)
            )
            for name, inner in value.items()
        }

    def _value(self, annotation: Any, value: Any, form: Form | None = None) -> Any:
        if isinstance(value, str):
            return self._text(annotation, value, form)
        if isinstance(value, list):
            return [self._value(_element(annotation), inner, form) for inner in value]
        if isinstance(value, dict):
            model = next((found for found in _models(annotation)), None)
            if model is not None:
                return self._model(model, value)
            return {self._key_of(name): self._value(_of_values(annotation), inner) for name, inner in value.items()}
        return value  # a number, a truth value, nothing

    def _text(self, annotation: Any, value: str, form: Form | None) -> str:
        if value == "":
            return value
        if form is not None:
            return self._formed(form, value)
        if any(value in choices for choices in _choices(annotation)):
            return value
        if any(found in _TIMES for found in _parts(annotation)) and _TIME.fullmatch(value):
            return value
        return self.hash(value)

    def _formed(self, form: Form, value: str) -> str:
        match form:
            case Form.ID:
                return ".".join(self._id_part(number, part) for number, part in enumerate(value.split(".")))
            case Form.DIGEST:
                return self._digest(value)
            case Form.RULE_FIELD:
                name = value.removeprefix(METADATA_FIELD)
                if name != value:
                    return METADATA_FIELD + self.hash(name)
                return value if value in ("filename", "completed_at") else self.hash(value)
            case Form.VERSION:
                return value if _VERSION.fullmatch(value) else self.hash(value)
            case Form.TENANT:
                return value if value == LOCAL_TENANT else self.hash(value)
            case Form.KNOWN:
                return value if value in self._words else self.hash(value)

    def _id_part(self, number: int, part: str) -> str:
        """Return one part of an id; the names of stages in it are hashed like those elsewhere."""
        if _PLAIN_ID.fullmatch(part) or (number and (part in _SUFFIXES or _NUMBER.fullmatch(part))):
            return part
        if stage := _STAGE_ID.fullmatch(part):
            return f"{stage[1]}-{self._formed(Form.KNOWN, stage[2])}-{stage[3]}"
        return self._formed(Form.TENANT, part)  # a budget's subject is its tenant

    def _key_of(self, name: str) -> str:
        return name if name in self._words else self.hash(name)

    def _digest(self, text: str) -> str:
        return hmac.new(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def _parts(annotation: Any) -> typing.Iterator[Any]:
    """Yield the alternatives of an annotation."""
    if get_origin(annotation) is Annotated:
        yield from _parts(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _parts(part)
    else:
        yield annotation


def _models(annotation: Any) -> typing.Iterator[type[BaseModel]]:
    for part in _parts(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            yield part


def _choices(annotation: Any) -> typing.Iterator[frozenset[Any]]:
    """Yield the values of each enumeration among the alternatives."""
    for part in _parts(annotation):
        if get_origin(part) is Literal:
            yield frozenset(get_args(part))
        elif isinstance(part, type) and issubclass(part, enum.Enum):
            yield frozenset(member.value for member in part)


def _element(annotation: Any) -> Any:
    """Return the annotation of the elements of a list or tuple."""
    for part in _parts(annotation):
        if get_origin(part) in (list, tuple) and get_args(part):
            return get_args(part)[0]
    return Any


def _of_values(annotation: Any) -> Any:
    """Return the annotation of the values of a mapping."""
    for part in _parts(annotation):
        if get_origin(part) is dict:
            return get_args(part)[1]
    return Any
