"""Generated values of a JSON Schema, with the constructs that the workloads' schemas use."""

from __future__ import annotations

import random
from typing import Any, Final

_TEXTS: Final = (
    "",
    "a",
    "The gripper drops the cube",
    "ein größerer Würfel",
    "a,b;c 1",
    "two\nlines",
    "<b>&amp;",
    "  x ",
    "x" * 250,
)
_JSON: Final = ({}, {"type": "object", "properties": {"a": {"type": "number"}}}, {"x": [1, 2.5, None, True, {"y": ""}]})
_NAMES: Final = ("dropped", "a-b_c9", "x")


def values_of(schema: dict[str, Any], chance: random.Random, root: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return values of an object's schema: all that are required, and some of the others."""
    root = root or schema
    required = set(schema.get("required", ()))
    share = chance.choice((0.1, 0.4, 1.0))
    return {
        name: value_of(declared, chance, root)
        for name, declared in schema.get("properties", {}).items()
        if name in required or chance.random() < share
    }


def value_of(schema: dict[str, Any], chance: random.Random, root: dict[str, Any]) -> Any:
    """Return a value of a schema."""
    if "$ref" in schema:
        return value_of(root["$defs"][schema["$ref"].rpartition("/")[2]], chance, root)
    for key in ("const", "enum"):
        if key in schema:
            return schema[key] if key == "const" else chance.choice(schema[key])
    if "anyOf" in schema:
        branch = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
        return value_of(branch | chance.choice(schema["anyOf"]), chance, root)
    return {
        "integer": _integer,
        "number": _number,
        "string": _text,
        "boolean": lambda _, chance, __: chance.random() < 0.5,
        "null": lambda *_: None,
        "array": _array,
        "object": _object,
    }[schema["type"]](schema, chance, root)


def _integer(schema: dict[str, Any], chance: random.Random, _: dict[str, Any]) -> int:
    low = schema.get("minimum", -(2**40))
    high = schema.get("maximum", schema.get("exclusiveMaximum", 2**40 + 1) - 1)
    return chance.choice((low, high, chance.randint(low, high), chance.randint(low, min(high, low + 20))))


def _number(schema: dict[str, Any], chance: random.Random, _: dict[str, Any]) -> float:
    low = schema.get("minimum", schema.get("exclusiveMinimum", -1e6))
    high = schema.get("maximum", schema.get("exclusiveMaximum", 1e9))
    limits = [schema[name] for name in ("minimum", "maximum") if name in schema]
    value = chance.uniform(low, high)
    return float(chance.choice((value, round(value, 2), value, *limits)))


def _text(schema: dict[str, Any], chance: random.Random, _: dict[str, Any]) -> str:
    fitting = _NAMES if "pattern" in schema else _TEXTS
    least, most = schema.get("minLength", 0), schema.get("maxLength", 10_000)
    return chance.choice([text for text in fitting if least <= len(text) <= most])


def _array(schema: dict[str, Any], chance: random.Random, root: dict[str, Any]) -> list[Any]:
    if "prefixItems" in schema:
        return [value_of(item, chance, root) for item in schema["prefixItems"]]
    least = schema.get("minItems", 0)
    count = chance.randint(least, min(schema.get("maxItems", least + 4), least + 6))
    values = [value_of(schema["items"], chance, root) for _ in range(count)]
    # Boundaries of sectors must rise.
    return (
        sorted(values)
        if values and all(isinstance(value, float) for value in values) and chance.random() < 0.8
        else values
    )


def _object(schema: dict[str, Any], chance: random.Random, root: dict[str, Any]) -> dict[str, Any]:
    if "properties" in schema:
        return values_of(schema, chance, root)
    item = schema.get("additionalProperties")
    if not isinstance(item, dict):
        return dict(chance.choice(_JSON))
    names = schema.get("propertyNames", {}).get("enum", list(_NAMES))
    required = schema.get("required", [])
    more = [name for name in names if name not in required and chance.random() < 0.3]
    return {name: value_of(item, chance, root) for name in [*required, *more]}
