"""JSON Schemas of workloads: each bound is a keyword of its type, so that a reader of the schema sees it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, Field

from modal_workers.catalog import workloads

#: Keywords that bound values of one type.
KEYWORDS: Final = {
    "array": {"minItems", "maxItems", "uniqueItems", "items", "prefixItems", "contains"},
    "string": {"minLength", "maxLength", "pattern", "format", "contentEncoding"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
    "object": {"properties", "additionalProperties", "required", "patternProperties", "minProperties", "maxProperties"},
}
#: What pydantic leaves of a bound that it cannot express.
LEFT: Final = {"ge", "gt", "le", "lt", "min_length", "max_length"}


def misplaced(schema: Any, place: str = "#", around: str | None = None) -> Iterator[str]:
    """Yield the places of keywords that do not belong to the type beside them, or ``around`` their alternative."""
    if isinstance(schema, list):
        for number, inner in enumerate(schema):
            yield from misplaced(inner, f"{place}/{number}")
    if not isinstance(schema, dict):
        return
    kind_here = schema.get("type", around)
    for keyword, inner in schema.items():
        if keyword in ("properties", "$defs"):
            for name, field in inner.items():
                yield from misplaced(field, f"{place}/{keyword}/{name}")
        elif keyword in ("anyOf", "oneOf", "allOf"):
            for number, alternative in enumerate(inner):
                yield from misplaced(alternative, f"{place}/{keyword}/{number}", kind_here)
        elif keyword not in ("default", "const", "enum", "examples"):
            yield from misplaced(inner, f"{place}/{keyword}")
    for kind, keywords in KEYWORDS.items():
        if kind != ("number" if kind_here == "integer" else kind_here):
            yield from (f"{place}: {keyword}" for keyword in sorted(keywords & schema.keys()))
    yield from (f"{place}: {keyword}" for keyword in sorted(LEFT & schema.keys()))


def test_bounds_are_keywords_of_their_type() -> None:
    found = {
        f"{name}.{part}": list(misplaced(model.model_json_schema()))
        for name, workload in workloads().items()
        for part, model in (("params", workload.params), ("result", workload.result))
    }
    assert {name: places for name, places in found.items() if places} == {}


def test_a_bound_behind_a_validator_is_found() -> None:
    class Wrong(BaseModel):
        """Parameters whose bounds no reader of the schema sees: pydantic states those of a text."""

        times_s: Annotated[tuple[float, ...], AfterValidator(lambda given: given), Field(min_length=1, max_length=9)]

    assert list(misplaced(Wrong.model_json_schema())) == [
        "#/properties/times_s: maxLength",
        "#/properties/times_s: minLength",
    ]
