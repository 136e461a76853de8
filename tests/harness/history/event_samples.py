"""Valid events of every type, with text of the caller's in every field that takes text."""

from __future__ import annotations

import enum
import itertools
import json
import re
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt
from pydantic import AwareDatetime, BaseModel

import contracts.events  # noqa: F401 - registers every class
from contracts.events.base import EVENT_CLASSES, EventData, subject_of
from contracts.ids import new_id

#: Fields whose text has a form that no free text has.
_ID_PATTERN = re.compile(r"\^\(?([a-z]{3})_")


@dataclass
class Sampler:
    """Makes events whose texts come from ``text``, which gets the name of the field."""

    text: Callable[[str], str]
    texts: list[str] = field(default_factory=list)

    def event(self, kind: str, tenant: str, subject_id: str | None = None) -> tuple[str, bytes]:
        """Return the subject and the bytes of one event of a type; its data are checked against its class."""
        model = EVENT_CLASSES[kind]
        noun, _, verb = kind.partition(".")
        data = json.loads(model.model_validate(self._model(model)).model_dump_json())
        envelope = {
            "specversion": "1.0",
            "id": new_id("evt"),
            "source": self._text("source"),
            "type": kind,
            "subject": subject_id or self._text("subject"),
            "time": "2026-11-23T07:00:00.123456Z",
            "datacontenttype": "application/json",
            "tenant": tenant,
            "data": data,
        }
        return subject_of(model.kind, tenant, noun, str(envelope["subject"]), verb), json.dumps(envelope).encode()

    def _text(self, name: str) -> str:
        made = self.text(name)
        self.texts.append(made)
        return made

    def _model(self, model: type[BaseModel]) -> dict[str, Any]:
        filled: dict[str, Any] = {}
        for name, info in model.model_fields.items():
            annotation: Any = info.annotation
            if info.metadata:
                annotation = Annotated[(annotation, *info.metadata)]
            filled[name] = self._value(name, annotation)
        if {"needs", "quiet_s"} <= filled.keys():
            filled["quiet_s"] = None  # a group takes one of two
        if {"minimum_bytes", "maximum_bytes"} <= filled.keys():
            filled["maximum_bytes"] = filled["minimum_bytes"] + 1
        return filled

    def _value(self, name: str, annotation: Any, constraints: tuple[Any, ...] = ()) -> Any:
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            return self._value(name, arguments[0], (*constraints, *arguments[1:]))
        if origin in (Union, types.UnionType):
            return self._value(name, next(part for part in arguments if part is not type(None)), constraints)
        if origin is Literal:
            return arguments[0]
        if origin in (list, tuple):
            return [self._value(name, arguments[0]) for _ in range(2)]
        if origin is dict:
            return {self._key(name, arguments[0]): self._value(name, arguments[1])}
        if annotation is Any:
            return {self._text(name): [self._text(name), 1.5, {self._text(name): self._text(name)}]}
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return self._model(annotation)
        if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
            return next(iter(annotation)).value
        if annotation is str:
            return self._constrained_text(name, constraints)
        if annotation in (datetime, AwareDatetime):
            return "2026-11-23T07:00:00Z"
        if annotation is date:
            return "2026-11-23"
        if annotation is bool:
            return True
        return self._number(constraints)

    def _key(self, name: str, annotation: Any) -> Any:
        return self._value(name, annotation)

    def _constrained_text(self, name: str, constraints: tuple[Any, ...]) -> str:
        patterns = [found for item in constraints if (found := _pattern(item))]
        if not patterns:
            return self._text(name)
        if prefix := _ID_PATTERN.match(patterns[0]):
            return new_id(prefix[1])  # type: ignore[arg-type]
        if "0-9a-f]{64}" in patterns[0]:
            return self._text("sha256")
        return f"metadata.{self._text(name)}" if "metadata" in patterns[0] else self._text(name)

    def _number(self, constraints: tuple[Any, ...]) -> float | int:
        limits: list[Any] = [item.ge for item in _flat(constraints) if isinstance(item, Ge)]
        least = max([0, *limits])
        above = any(isinstance(item, Gt) for item in _flat(constraints))
        return int(least) if least >= 1 else int(above)


def _flat(constraints: tuple[Any, ...]) -> Iterator[Any]:
    for item in constraints:
        yield from getattr(item, "metadata", None) or (item,)


def _pattern(item: Any) -> str | None:
    for inner in _flat((item,)):
        if isinstance(pattern := getattr(inner, "pattern", None), str):
            return pattern
    return None


def every_type() -> list[type[EventData]]:
    """Return the class of every event, in the order of the types' names."""
    return [EVENT_CLASSES[kind] for kind in sorted(EVENT_CLASSES)]


def numbered_texts(prefix: str) -> Callable[[str], str]:
    """Return a source of texts that differ from each other and from everything else; a SHA-256 gets 64 digits."""
    numbers = itertools.count()

    def text(name: str) -> str:
        number = next(numbers)
        return f"{number:064x}"[:-8] + "facade77" if name == "sha256" else f"{prefix}{number:05d}x"

    return text
