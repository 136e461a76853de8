"""Requests with hostile values, one at each place where the routes of an OpenAPI document take a value."""

from __future__ import annotations

import copy
import http.client
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlsplit

#: Longer than every limit on text.
_LONG: Final = "x" * 70_000
#: Half of a surrogate pair, at either half and inside of a text; NUL; noncharacters; lengths.
TEXTS: Final = (
    "\udfff", "a\ud800", "\ud83d.\ude00", "\x00", "a\x00b", "\ufdd0\ufffe\uffff\U0010ffff", "", " ", "\r\n", "é" * 400,
    _LONG,
)  # fmt: skip
#: Numbers that are none, and those that overflow.
VALUES: Final = (True, "5", None, -1, 1 << 63, 1 << 64, 10**400, 1e308, -0.0, 5e-324, [], {}, [[[]]] * 9)
_HEADER_CHARS: Final = 4000
_PLAIN: Final = ("x", "a.1", "jobs-1", "/v1/events", "https://example.com/x", "0" * 64)


@dataclass
class Request:
    """A request whose parts can be replaced."""

    method: str
    path: str
    path_values: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    #: Names of what can be left out of query, headers and body.
    optional: dict[str, list[str]] = field(default_factory=dict)

    @property
    def target(self) -> str:
        """Path and query, with all but plain characters as %XX."""
        path = self.path
        for name, value in self.path_values.items():
            path = path.replace(f"{{{name}}}", _escaped(value))
        query = "&".join(f"{_escaped(name)}={_escaped(value)}" for name, value in self.query.items())
        return f"{path}?{query}" if query else path

    def places(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Yield each place of a value: the part of the request, and the keys that lead to the value."""
        for part in ("path_values", "query", "headers"):
            yield from ((part, (name,)) for name in getattr(self, part))
        for part, names in self.optional.items():
            yield from ((part, (name,)) for name in names)
        if self.body is not None:
            yield from (("body", keys) for keys in _keys(self.body))
            yield from (("name", keys) for keys in _keys(self.body) if keys and isinstance(keys[-1], str))

    def with_value(self, part: str, keys: tuple[Any, ...], value: Any) -> Request:
        """Return the request with another value at a place; ``name`` is the place of the name of a field."""
        changed = copy.deepcopy(self)
        if part == "body" and not keys:
            changed.body = value
            return changed
        target: Any = getattr(changed, "body" if part == "name" else part)
        for key in keys[:-1]:
            target = target[key]
        if part == "name":
            target[value] = target.pop(keys[-1])
        else:
            target[keys[-1]] = value
        return changed


def requests_of(document: Mapping[str, Any], known: Mapping[str, str]) -> Iterator[Request]:
    """Yield a request for each operation, with every value that it takes; ``known`` are values of parameters."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            request = Request(method.upper(), path)
            ends = method == "delete" or path.endswith(("/stop", "/cancel"))
            for parameter in operation.get("parameters", []):
                name, part = parameter["name"], {"query": "query", "header": "headers"}.get(parameter["in"])
                if part:
                    request.optional.setdefault(part, []).append(name)
                    continue
                value = _example(parameter["schema"], document)
                # What other requests need is not ended.
                request.path_values[name] = str(value) if ends else known.get(name, str(value))
            content = operation.get("requestBody", {}).get("content", {})
            for media_type, body in content.items():
                if media_type.endswith("json"):
                    request.headers["Content-Type"] = media_type
                    schema = _resolved(body["schema"], document)
                    request.body = json.loads(_with_known(json.dumps(_example(schema, document)), known))
                    request.optional["body"] = [
                        name for name in schema.get("properties", ()) if name not in request.body
                    ]
            yield request


def hostile_requests(
    document: Mapping[str, Any], known: Mapping[str, str], seed: int, generated: int = 1
) -> Iterator[Request]:
    """Yield each request with each hostile value at each of its places, and with generated text."""
    choose = random.Random(seed)
    for request in requests_of(document, known):
        for part, keys in request.places():
            texts = [*TEXTS, *(_text(choose) for _ in range(generated))]
            if part == "headers":
                # HTTP itself has no line breaks, NUL or spaces at the ends there.
                texts = [text for text in texts if text.strip() and not set("\r\n\0") & set(text)]
            values = [*texts, *VALUES] if part == "body" else texts
            for value in values:
                yield request.with_value(part, keys, value)


def send(url: str, request: Request) -> http.client.HTTPResponse:
    """Send a request and return the answer; only the answer's head is read."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    headers = {name: _bytes(value)[:_HEADER_CHARS] for name, value in request.headers.items()}
    body = None if request.body is None else json.dumps(request.body).encode()
    connection.request(request.method, request.target, body, headers)  # type: ignore[arg-type] # bytes are sent as they are
    try:
        return connection.getresponse()
    finally:
        connection.close()


def _text(choose: random.Random) -> str:
    planes = ((0, 0x7F), (0x80, 0x7FF), (0xD800, 0xDFFF), (0xFDD0, 0xFDEF), (0x1F000, 0x10FFFF))
    return "".join(chr(choose.randint(*choose.choice(planes))) for _ in range(choose.randint(1, 12)))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _escaped(text: str) -> str:
    return quote(_bytes(text)[:_HEADER_CHARS], safe="")


def _with_known(body: str, known: Mapping[str, str]) -> str:
    """Replace the ids of the examples by known ones."""
    for prefix, name in (("upl", "upload_id"), ("job", "job_id"), ("ses", "session_id")):
        for last in "0123456789":
            if name in known:
                body = body.replace(f"{prefix}_0198c0de-0000-7000-8000-00000000000{last}", known[name])
    return body


def _keys(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield before
    inner: Sequence[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))[:2]
    for key, part in inner:
        yield from _keys(part, (*before, key))


def _resolved(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    if choices := [choice for choice in schema.get("anyOf", ()) if "$ref" in choice]:
        schema = choices[0]
    if "$ref" in schema:
        found: Mapping[str, Any] = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return found
    return schema


def _example(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Any:
    """Return a valid value with the fields that are required or text; None for one that needs a generator."""
    schema = _resolved(schema, document)
    if example := schema.get("example") or next(iter(schema.get("examples", ())), None):
        return example
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    choices = [choice for choice in schema.get("anyOf", ()) if choice.get("type") != "null"]
    if choices and "type" not in schema:
        return _example(choices[0], document)
    match schema.get("type"):
        case "object":
            required = schema.get("required", ())
            fields = {
                name: _example(inner, document)
                for name, inner in schema.get("properties", {}).items()
                if name in required or inner.get("type") in ("object", "string", "array")
            }
            if isinstance(more := schema.get("additionalProperties"), dict):
                fields["x-name"] = _example(more, document)
            return {name: value for name, value in fields.items() if value is not None or name in required}
        case "array":
            items = schema.get("prefixItems") or [schema["items"]] * schema.get("minItems", 1)
            return [_example(item, document) for item in items[: schema.get("minItems", 1)]]
        case "integer" | "number":
            return max(schema.get("minimum", 0), schema.get("exclusiveMinimum", -1) + 1)
        case "boolean":
            return False
        case "string" if "format" not in schema:
            return next((text for text in _PLAIN if re.search(schema.get("pattern", ""), text)), None)
    return None
