"""``saccade workloads``: list a server's workloads, their inputs and parameters."""

from __future__ import annotations

from typing import Any

import click

from cli.connection import open_client, server_options
from cli.jobs.submission import find_workload, is_available
from cli.output import print_json, print_line, print_note, print_table


@click.command()
@click.argument("name", required=False)
@server_options
def workloads(name: str | None, url: str | None, as_json: bool) -> None:
    """List the server's workloads.

    With NAME, show the inputs and parameters of one workload.
    """
    with open_client(url) as client:
        found = client.workloads() if name is None else [find_workload(client, name)]
    if as_json:
        for workload in found:
            print_json(workload)
    elif name is None:
        rows = [(workload["name"], "yes" if is_available(workload) else "no", workload["title"]) for workload in found]
        print_table(("WORKLOAD", "AVAILABLE", "TITLE"), rows)
        for workload in found:
            if not is_available(workload):
                print_note(f"{workload['name']} needs {', '.join(workload['missing'])}.\n  hint: {workload['enable']}")
    else:
        _describe(found[0])


def _describe(workload: dict[str, Any]) -> None:
    print_line(f"{workload['name']}: {workload['title']}")
    print_line(f"{workload.get('description', '')}\n")
    if not is_available(workload):
        print_line(f"Not available: it needs {', '.join(workload['missing'])}.\n  hint: {workload['enable']}\n")
    print_line("Inputs, in order")
    inputs = [(given["name"], given["media"], given["title"]) for given in workload["inputs"]]
    print_table(("NAME", "MEDIA", "TITLE"), inputs)
    schema = workload.get("params_schema") or workload.get("params") or {}
    properties = schema.get("properties", {})
    if properties:
        print_line("\nParameters")
        rows = [
            (name, _type_name(field), str(field.get("default", "")), str(field.get("description", "")))
            for name, field in properties.items()
        ]
        print_table(("NAME", "TYPE", "DEFAULT", "DESCRIPTION"), rows)


def _type_name(schema: dict[str, Any]) -> str:
    """Return a JSON Schema's type, or the values it allows."""
    if "enum" in schema:
        return "|".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " or ".join(_type_name(option) for option in schema["anyOf"] if option.get("type") != "null")
    return "object" if "$ref" in schema else str(schema.get("type", ""))
