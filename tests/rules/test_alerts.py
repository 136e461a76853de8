"""The alert rules and the dashboard, by Prometheus' own tool where it is installed (Debian's package prometheus)."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
import yaml

from tests.rules.tree import ROOT

ALERTS = ROOT / "deploy" / "alerts.yml"
BOARD = ROOT / "deploy" / "grafana" / "saccade.json"


def _promtool(*words: str) -> str:
    if (tool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run([tool, *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _expressions() -> dict[str, str]:
    """Return the expressions of the dashboard by title and letter."""
    panels = json.loads(BOARD.read_text())["panels"]
    return {
        f"{panel['title']} {target['refId']}": target["expr"] for panel in panels for target in panel.get("targets", [])
    }


def test_prometheus_accepts_the_rules() -> None:
    assert "SUCCESS" in _promtool("check", "rules", str(ALERTS))


def test_alerts_fire_when_they_should() -> None:
    assert "SUCCESS" in _promtool("test", "rules", "tests/alerts/alerts_test.yml")


def test_prometheus_accepts_the_expressions_of_the_dashboard(tmp_path) -> None:
    rules = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(_expressions().values())]
    (tmp_path / "board.yml").write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    assert "SUCCESS" in _promtool("check", "rules", str(tmp_path / "board.yml"))


def test_the_dashboard_is_whole() -> None:
    board = json.loads(BOARD.read_text())
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]}
    assert len(places) == len(ids), "no panel covers another"
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in board["panels"])
    assert all(panel["datasource"]["uid"] == "${source}" for panel in board["panels"] if panel["type"] != "row")
    assert len(_expressions()) > 25


def test_every_alert_says_what_to_do() -> None:
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    assert all(
        rule["annotations"]["description"] and rule["labels"]["severity"] in ("warning", "critical") for rule in rules
    )
