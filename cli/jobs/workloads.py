"""``saccade workloads``: what a server can do."""

from __future__ import annotations

from typing import Any

import click

from cli.connection import open_client, server_options
from cli.jobs.submission import find_workload
from cli.output import print_json, print_line, print_table


@click.command()
@click.argument("name", required=False)
@server_options
def workloads(name: str | None, url: str | None, as_json: bool) -> None:
    """List what the server can do, or show the inputs and parameters of one workload."""
    with open_client(url) as client:
        found = client.workloads() if name is None else [find_workload(client, name)]
    if as_json:
        for workload in found:
            print_json(workload)
    elif name is None:
        print_table(("WORKLOAD", "WHAT"), [(one["name"], one["title"]) for one in found])
    else:
        _describe(found[0])


def _describe(workload: dict[str, Any]) -> None:
    print_line(f"{workload['name']}: {workload['title']}")
    print_line(f"{workload.get('description', '')}\n")
    print_line("Inputs, in order")
    print_table(("NAME", "MEDIA", "WHAT"), [(one["name"], one["media"], one["title"]) for one in workload["inputs"]])
    schema = workload.get("params_schema") or workload.get("params") or {}
    properties = schema.get("properties", {})
    if properties:
        print_line("\nParameters")
        rows = [
            (name, _kind(one), str(one.get("default", "")), str(one.get("description", "")))
            for name, one in properties.items()
        ]
        print_table(("NAME", "TYPE", "DEFAULT", "WHAT"), rows)


def _kind(schema: dict[str, Any]) -> str:
    """Name a JSON Schema's type, or the values it allows."""
    if "enum" in schema:
        return "|".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"] if one.get("type") != "null")
    return str(schema.get("type", ""))
