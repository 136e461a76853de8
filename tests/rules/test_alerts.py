"""The alert rules and the dashboard, by Prometheus' own tool where it is installed (Debian's package prometheus)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.rules.tree import ROOT

ALERTS = ROOT / "deploy" / "alerts.yml"
BOARD = ROOT / "deploy" / "grafana" / "saccade.json"
#: Unit tests of the rules, in promtool's format.
CASES = sorted((ROOT / "tests" / "alerts").glob("*_test.yml"))
_COMPARISON = re.compile(r"([<>]|==) (\d+(?:\.\d+)?)")


def _run_promtool(*words: str) -> subprocess.CompletedProcess[str]:
    if (tool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not installed")
    return subprocess.run([tool, *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def _promtool(*words: str) -> str:
    done = _run_promtool(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def _expressions() -> dict[str, str]:
    """Return the expressions of the dashboard by title and letter."""
    panels = json.loads(BOARD.read_text())["panels"]
    return {
        f"{panel['title']} {target['refId']}": target["expr"] for panel in panels for target in panel.get("targets", [])
    }


def test_prometheus_accepts_the_rules() -> None:
    assert "SUCCESS" in _promtool("check", "rules", str(ALERTS))


def test_alerts_fire_when_they_should_and_only_then() -> None:
    assert "SUCCESS" in _promtool("test", "rules", *map(str, CASES))


def test_every_alert_is_tested_both_ways() -> None:
    tests = [test for path in CASES for test in yaml.safe_load(path.read_text())["tests"]]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    rules = {rule["alert"] for rule in _rules()}
    assert len(rules) >= 19
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == rules
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == rules


def _pending(rule: dict[str, Any], more_minutes: int) -> dict[str, Any] | None:
    """Return a rule with another pending time."""
    number, unit = re.fullmatch(r"(\d+)([mh])", rule.get("for", "0m")).groups()  # type: ignore[union-attr]
    minutes = int(number) * {"m": 1, "h": 60}[unit] + more_minutes
    return rule | {"for": f"{minutes}m"} if minutes >= 0 else None


def _compared(rule: dict[str, Any], place: int, direction: int) -> dict[str, Any] | None:
    """Return a rule whose expression compares with a greater or smaller number at one of its comparisons."""
    found = list(_COMPARISON.finditer(rule["expr"]))
    if place >= len(found):
        return None
    was = float(found[place][2])
    step = max(was / 10, 1) if was.is_integer() else was / 10
    begin, end = found[place].span(2)
    return rule | {"expr": f"{rule['expr'][:begin]}{was + direction * step}{rule['expr'][end:]}"}


def _unconditional(rule: dict[str, Any]) -> dict[str, Any] | None:
    """Return a rule without its second condition."""
    first, _, second = rule["expr"].partition(" and ")
    return rule | {"expr": first} if second else None


CHANGES: dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]] = {
    "pends longer": lambda rule: _pending(rule, 1),
    "pends shorter": lambda rule: _pending(rule, -1),
    "greater limit": lambda rule: _compared(rule, 0, 1),
    "smaller limit": lambda rule: _compared(rule, 0, -1),
    "greater second limit": lambda rule: _compared(rule, 1, 1),
    "smaller second limit": lambda rule: _compared(rule, 1, -1),
    "no second condition": _unconditional,
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_tests_notice_a_rule_with_another_limit_or_time(tmp_path: Path, name: str) -> None:
    changed = {rule["alert"]: other for rule in _rules() if (other := CHANGES[name](rule))}
    assert changed
    rules = [changed.get(rule["alert"], rule) for rule in _rules()]
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump({"groups": [{"name": "saccade", "rules": rules}]}))
    for path in CASES:
        (tmp_path / path.name).write_text(path.read_text().replace("../../deploy/alerts.yml", "alerts.yml"))
    done = _run_promtool("test", "rules", *(str(tmp_path / path.name) for path in CASES))
    noticed = set(re.findall(r"alertname: (\w+), time", done.stdout + done.stderr))
    assert set(changed) - noticed == set()


def test_prometheus_accepts_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
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
    rules = _rules()
    assert len({rule["alert"] for rule in rules}) == len(rules)
    assert all(
        rule["annotations"]["description"] and rule["labels"]["severity"] in ("warning", "critical") for rule in rules
    )
