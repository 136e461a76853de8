"""Listing of a workload's parameters."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from cli.jobs import workloads
from modal_workers.lap_compare.spec import LapCompareParams


class Listed:
    """A client of a server with one workload."""

    def __enter__(self) -> Listed:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def workloads(self) -> list[dict[str, object]]:
        schema = LapCompareParams.model_json_schema()
        return [{"name": "lap_compare", "title": "Lap comparison", "inputs": [], "params_schema": schema}]


def test_a_parameter_that_is_an_object_has_a_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workloads, "open_client", lambda url: Listed())  # noqa: ARG005
    shown = CliRunner().invoke(workloads.workloads, ["lap_compare"])
    assert shown.exit_code == 0, shown.output
    types = {words[0]: words[1] for line in shown.output.splitlines() if len(words := line.split()) > 1}
    assert types["segments"] == "object"
