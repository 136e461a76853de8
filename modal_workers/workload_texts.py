"""Texts of workloads in other languages than English: ``texts_<language>.json`` beside a worker's ``spec.py``."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from modal_workers.catalog import worker_package

#: Languages besides English, as in the file names.
LANGUAGES: Final = ("de",)


class ParameterText(BaseModel):
    """Label and description of a parameter; empty where English has none either."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    description: str


class FollowUpTexts(BaseModel):
    """Texts of a job that a result leads to: titles of the picks in order, of the columns by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    picks: tuple[str, ...]
    columns: dict[str, str]


class WorkloadTexts(BaseModel):
    """Texts of a workload's declaration. ``params`` are by path, as ``parameter_paths`` returns them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    description: str
    inputs: dict[str, str]
    stages: dict[str, str]
    params: dict[str, ParameterText]
    follow_ups: tuple[FollowUpTexts, ...] = ()


@cache
def workload_texts(name: str, language: str) -> WorkloadTexts | None:
    """Return a workload's texts in a language; None where its worker has none.

    Raises:
        SaccadeError: UNKNOWN_WORKLOAD.
    """
    if language not in LANGUAGES:
        return None
    path = Path(next(iter(importlib.import_module(worker_package(name)).__path__))) / f"texts_{language}.json"
    return WorkloadTexts.model_validate(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def parameter_paths(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each parameter's path and schema: ``sectors``, or ``LapSegment.start_s`` of one inside another."""
    yield from schema.get("properties", {}).items()
    for kind, definition in schema.get("$defs", {}).items():
        for name, inner in definition.get("properties", {}).items():
            yield f"{kind}.{name}", inner


def translated_schema(schema: dict[str, Any], texts: WorkloadTexts) -> dict[str, Any]:
    """Return a copy of a parameters' schema with titles and descriptions of a language; others stay English."""
    copy = deepcopy(schema)
    for path, parameter in parameter_paths(copy):
        if text := texts.params.get(path):
            parameter["title"] = text.title
            if text.description:
                parameter["description"] = text.description
    return copy
