"""Generator of docs/events.md, docs/asyncapi.json, the JSON Schemas of events and result files, and docs/reference.py.

``python docs/generate.py`` writes them, ``--check`` lists what is stale. Producers and consumers of an event are read
from the syntax tree, so that nothing has to be imported.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from contracts.asyncapi import (  # noqa: E402 - the root must be on the path, wherever this is started from
    address_of,
    asyncapi_document,
    carries,
    data_schema,
    event_types,
    stream_of,
    summary_of,
)
from contracts.events.base import ADVISORY, DURABLE, RECORD  # noqa: E402
from contracts.streams import LIVE_DELIVERIES, LIVE_EVENTS, LIVE_PROGRESS  # noqa: E402
from docs.reference import errors_page, routes_page, settings_page  # noqa: E402
from modal_workers.badminton.report.results_schema import MatchResults  # noqa: E402

DOCS = ROOT / "docs"
SCHEMAS = DOCS / "schemas" / "v1"
#: Result files of workers whose schema is published, by the name of the schema.
RESULT_FILES = {"badminton": MatchResults}
#: Keywords that do not restrict values; keywords that, when added, forbid values that were valid.
_TEXT = {"description", "title", "default", "examples"}
_NARROWING = {"type", "const", "enum", "pattern", "format", "$ref", "anyOf", "additionalProperties"}
#: Modules that decide state changes.
_DECIDING = ("contracts.budget", "contracts.job", "contracts.job_files", "contracts.session")
#: Subjects of the live copies of all events of a kind, by the name of the constant; and literal subjects.
_LIVE = {"LIVE_EVENTS": LIVE_EVENTS, "LIVE_PROGRESS": LIVE_PROGRESS, "LIVE_DELIVERIES": LIVE_DELIVERIES}
_PATTERN = re.compile(r"(?:live\.)?saccade\.(?:evt|prog|dlv)\.(?:>|(?:[\w*]+\.){3}[\w*]+)")


@dataclass
class Flow:
    """Places where one event is produced, handled, and where all events of its kind are subscribed to."""

    made: set[str] = field(default_factory=set)
    handled: set[str] = field(default_factory=set)
    listened: set[str] = field(default_factory=set)


def source_files() -> Iterator[tuple[str, ast.Module]]:
    """Yield every source file that may make or read an event: its path from the root and its syntax tree."""
    for folder in ("services", "modal_workers"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.is_relative_to(ROOT / "services" / "whatif"):
                continue  # its events are simulated, and reach no bus
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(), str(path))


def event_flow() -> dict[str, Flow]:
    """Return the producers and consumers of every event, read from the code."""
    flows = {name: Flow() for name in event_types()}
    by_class = {event.__name__: name for name, event in event_types().items()}
    deciders = _deciders(by_class)
    for path, tree in source_files():
        calls = {_called(node) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for called in calls & by_class.keys():
            flows[by_class[called]].made.add(path)
        if calls & deciders.keys():
            for called in calls & deciders.keys() & _imported_deciders(tree, deciders):
                flows[deciders[called]].made.add(path)
        if path.startswith("services/") and path.count("/") > 1:
            _add_readers(flows, path, tree)
    return flows


def _add_readers(flows: dict[str, Flow], path: str, tree: ast.Module) -> None:
    if Path(path).name.startswith("on_"):
        for name, function in handlers(path, tree):
            if name in flows:
                flows[name].handled.add(f"{path} {function}")
    for pattern in subscriptions(tree):
        for name, event in event_types().items():
            if carries(pattern, event):
                flows[name].listened.add(path)


def subscriptions(tree: ast.Module) -> set[str]:
    """Return the subjects, with wildcards, that a file of a service subscribes to."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in _LIVE:
            found.add(_LIVE[node.id])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _PATTERN.fullmatch(node.value):
            found.add(node.value)
    return found


def handlers(path: str, tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the pairs of event type and function of one ``on_<noun>.py``.

    A function handles the event that it is named as (``submitted`` or ``job_submitted`` in ``on_job.py``), or the
    event that a table of the module maps to it (``{"job.submitted": submitted}``).
    """
    noun = Path(path).stem.removeprefix("on_")
    verbs = {name.partition(".")[2]: name for name in event_types() if name.partition(".")[0] == noun}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if (name := verbs.get(node.name.removeprefix(f"{noun}_"))) is not None:
                yield name, node.name
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if (name := _event_named(key)).startswith(f"{noun}."):
                    yield name, value.attr if isinstance(value, ast.Attribute) else ast.unparse(value)


def _event_named(key: ast.expr | None) -> str:
    """Read the event type that a table's key names: ``"job.failed"`` or ``JobFailed.type``."""
    classes = {event.__name__: name for name, event in event_types().items()}
    match key:
        case ast.Constant(value=str(name)):
            return name
        case ast.Attribute(value=ast.Name(id=name) | ast.Attribute(attr=name), attr="type"):
            return classes.get(name, "")
        case _:
            return ""


def _deciders(by_class: dict[str, str]) -> dict[str, str]:
    """Find the decisions of contracts/job.py and session.py that make an event: function by event type."""
    trees = [ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text()) for module in _DECIDING]
    return {
        function.name: by_class[called]
        for tree in trees
        for function in tree.body
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and (called := _called(node)) in by_class
    }


def _called(node: ast.Call) -> str:
    """Return the name of the called function or class."""
    match node.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def _imported_deciders(tree: ast.Module, deciders: dict[str, str]) -> set[str]:
    """Return the deciding functions that a file imports; all of them if it imports a whole module."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in _DECIDING:
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            origin = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            if any(f"{origin}{alias.name}" in _DECIDING for alias in node.names):
                names |= deciders.keys()
    return names


def events_page() -> str:
    """Return the text of docs/events.md."""
    flows = event_flow()
    lines = [
        "# Events",
        "",
        "Generated by `python docs/generate.py`; a test fails when this page is stale.",
        "",
        "Every event is a CloudEvent 1.0 in structured JSON (`contracts/events/base.py`), encoded once. The same bytes",
        "are on NATS, in the `data:` line of a server-sent event and in the body of a webhook. Machine-readable:",
        "[asyncapi.json](asyncapi.json) and, one file per event, [schemas/v1](schemas/v1).",
        "",
        "**Handled at** is the function in an `on_*.py`. Subscribers to *all* events of a kind are listed below the",
        "table.",
        "",
        "| event | meaning | stream | published at | handled at |",
        "|---|---|---|---|---|",
    ]
    for name, event in event_types().items():
        flow = flows[name]
        cells = [f"`{name}`", summary_of(event), stream_of(event).name, _paths(flow.made), _paths(flow.handled)]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    kinds = ((DURABLE, "durable events"), (ADVISORY, "advisory events"), (RECORD, "delivery records"))
    followed = [f"All {named} are consumed at {_paths(_followers(flows, kind))}" for kind, named in kinds]
    lines += [
        "",
        *(f"- {line}" for line in followed),
        "",
        "## Subjects",
        "",
        "| event | subject |",
        "|---|---|",
        *(f"| `{name}` | `{address_of(event)}` |" for name, event in event_types().items()),
        "",
    ]
    return "\n".join(lines)


def _followers(flows: dict[str, Flow], kind: str) -> set[str]:
    """Return the files that subscribe to all events of a kind."""
    return {path for name, flow in flows.items() for path in flow.listened if event_types()[name].kind == kind}


def _paths(places: set[str]) -> str:
    """Return places as ``path`` or ``path function``."""
    written = []
    for place in sorted(places):
        path, _, function = place.partition(" ")
        written.append(f"`{path}` {function}".rstrip())
    return ", ".join(written) or "–"


def breaks(old: Any, new: Any, where: str = "") -> list[str]:
    """Return the changes of a JSON Schema that break a reader of the old one; empty if there are none.

    Fields may be added, and values of an enumeration (readers are deployed before writers). Nothing may be removed,
    renamed or given another type, and required fields stay required.
    """
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [line for i, pair in enumerate(zip(old, new, strict=True)) for line in breaks(*pair, f"{where}/{i}")]
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [] if old == new else [f"{where}: {old!r} became {new!r}"]
    found = [f"{where}/{key} is new" for key in sorted((new.keys() - old.keys()) & _NARROWING)]
    for key in old.keys() - _TEXT:
        place = f"{where}/{key}"
        if key not in new:
            found.append(f"{place} is gone")
        elif key in ("properties", "$defs"):
            found += [f"{place}/{name} is gone" for name in old[key] if name not in new[key]]
            found += [
                line
                for name in old[key].keys() & new[key].keys()
                for line in breaks(old[key][name], new[key][name], f"{place}/{name}")
            ]
        elif key in ("required", "enum"):
            found += [f"{place}: {item!r} is gone" for item in old[key] if item not in new[key]]
        else:
            found += breaks(old[key], new[key], place)
    return found


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def wanted() -> dict[Path, str]:
    """Return the text of every generated file."""
    files = {DOCS / "events.md": events_page(), DOCS / "asyncapi.json": _json(asyncapi_document())}
    files |= {
        DOCS / "errors.md": errors_page(),
        DOCS / "routes.md": routes_page(),
        DOCS / "settings.md": settings_page(),
    }
    for name, event in event_types().items():
        files[SCHEMAS / f"{name}.json"] = _json(data_schema(event))
    for name, model in RESULT_FILES.items():
        files[SCHEMAS / "results" / f"{name}.json"] = _json(model.model_json_schema())
    return files


def incompatible() -> list[str]:
    """Return where the code breaks a reader of the published schemas."""
    found = []
    for path in sorted(SCHEMAS.glob("*.json")):
        event = event_types().get(path.stem)
        if event is None:
            found.append(f"{path.stem} is gone")
        else:
            found += [f"{path.stem}{line}" for line in breaks(json.loads(path.read_text()), data_schema(event))]
    for path in sorted((SCHEMAS / "results").glob("*.json")):
        model = RESULT_FILES.get(path.stem)
        if model is None:
            found.append(f"results/{path.stem} is gone")
        else:
            schema = model.model_json_schema()
            found += [f"results/{path.stem}{line}" for line in breaks(json.loads(path.read_text()), schema)]
    return found


def main() -> int:
    """Write stale files, or with ``--check`` only list them."""
    parser = argparse.ArgumentParser(description="Write the generated files of docs.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if something is stale")
    only_check = parser.parse_args().check
    if broken := incompatible():
        sys.stderr.write("".join(f"{line}\n" for line in broken))
        sys.stderr.write("These changes break readers of the schemas in docs/schemas: add a new event type instead.\n")
        return 1
    stale = {path: text for path, text in wanted().items() if not path.exists() or path.read_text() != text}
    for path, text in stale.items():
        sys.stdout.write(f"{'stale' if only_check else 'written'}: {path.relative_to(ROOT)}\n")
        if not only_check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return 1 if stale and only_check else 0


if __name__ == "__main__":
    sys.exit(main())
