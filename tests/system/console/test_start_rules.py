"""What the Start page decides: which workload files are for, and the form of a workload's parameters."""

from __future__ import annotations

import random
import secrets
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from contracts.workload import Params, Workload
from modal_workers import catalog
from tests.harness.clients.console_modules import console_modules
from tests.harness.console_drops import DROPS, Drop, generated_drop
from tests.harness.schema_values import values_of
from tests.workers.hasty.spec import WORKLOAD as HASTY
from tests.workers.laddered.spec import WORKLOAD as LADDERED
from tests.workers.scripted.spec import WORKLOAD as SCRIPTED

pytestmark = pytest.mark.anyio

_CHOOSE = "({ choose }, workloads, drops) => drops.map((files) => choose(workloads, files))"
_ROUND_TRIP = """({ fieldsOf, entriesOf, paramsOf }, schema, values) => {
  const fields = fieldsOf(schema);
  return values.map((value) => paramsOf(fields, JSON.parse(JSON.stringify(entriesOf(fields, value)))));
}"""
_KINDS = """({ fieldsOf }, schema) => {
  const kinds = (at, fields) => fields.flatMap(({ name, kind, fields, branches, item }) => [[`${at}${name}`, kind],
    ...kinds(`${at}${name}.`, fields ?? item?.fields ?? []),
    ...(branches ?? []).flatMap((branch) => kinds(`${at}${name}.`, branch.fields ?? []))]);
  return kinds("", fieldsOf(schema));
}"""
_DROPS = 200
_VALUES = 60
#: Objects with any members, and an array whose length is one of three: JSON is how one writes them.
_AS_JSON = {
    "live_splat": {"robot.calibration", "robot.norm_modes", "intrinsics.distortion"},
    "vision_stream": {"answer_schema"},
}


def declaration(workload: Workload) -> dict[str, Any]:
    """Return what GET /v1/workloads says of a workload, as far as the choice depends on it."""
    inputs = [vars(declared) for declared in workload.inputs]
    one_of = [list(names) for names in workload.one_of]
    return {"name": workload.name, "kind": workload.kind, "available": True, "inputs": inputs, "one_of": one_of}


def judged(drop: Drop, choice: dict[str, Any]) -> tuple[bool, list[str]]:
    """Return whether the choice is what the drop was meant for, and what was decided wrongly without a word."""
    offered = {one["workload"]["name"] for one in choice["candidates"] if one["state"] != "no"}
    right = choice["chosen"] == drop.wanted and drop.offered <= offered
    silent = []
    if choice["chosen"] not in (None, drop.wanted):
        silent.append(f"{choice['chosen']} was chosen")
    if {one["index"] for one in choice["unsuitable"]} != drop.unsuitable:
        silent.append("an unsuitable file is not named")
    for candidate in choice["candidates"]:
        placed = [index for indices in candidate["inputs"].values() for index in indices]
        if sorted([*placed, *candidate["unused"], *drop.unsuitable]) != list(range(len(drop.files))):
            silent.append(f"a file is neither used nor left out by {candidate['workload']['name']}")
        counts = [(len(candidate["inputs"][each["name"]]), each) for each in candidate["workload"]["inputs"]]
        silent += [f"{each['name']} has too many files" for count, each in counts if count > each["maximum"]]
        if candidate["state"] == "fits" and (candidate["unused"] or candidate["missing"]):
            silent.append(f"{candidate['workload']['name']} does not fit")
    return right, silent


async def test_generated_drops_find_their_workload_and_none_is_wrong_silently(tmp_path: Path) -> None:
    seed = secrets.randbits(32)
    chance = random.Random(seed)
    drops = [generated_drop(chance, DROPS[number % len(DROPS)]) for number in range(_DROPS)]
    workloads = [declaration(workload) for workload in catalog.workloads().values() if workload.kind != "stage"]
    async with console_modules(tmp_path) as modules:
        choices = await modules.call("pages/start/choose.js", _CHOOSE, workloads, [drop.files for drop in drops])
    found = [(drop, choice, *judged(drop, choice)) for drop, choice in zip(drops, choices, strict=True)]
    assert [(seed, drop, silent) for drop, _, _, silent in found if silent] == []
    wrong = [
        (drop.kind, drop.files, choice["chosen"], choice["question"]) for drop, choice, right, _ in found if not right
    ]
    assert len(wrong) <= 0.05 * _DROPS, (seed, wrong)


async def test_what_somebody_has_chosen_for_a_file_holds(tmp_path: Path) -> None:
    workloads = [declaration(workload) for workload in catalog.workloads().values() if workload.kind != "stage"]
    laps = [{"name": name, "type": "video/mp4", "size": 1} for name in ("b.mp4", "a.mp4")]
    swapped = [laps[0] | {"use": "other"}, laps[1] | {"use": "reference"}]
    left_out = [*laps, {"name": "c.mp4", "type": "", "size": 1, "use": ""}]
    async with console_modules(tmp_path) as modules:
        choices = await modules.call("pages/start/choose.js", _CHOOSE, workloads, [laps, swapped, left_out])
    inputs = [choice["candidates"][0]["inputs"] for choice in choices]
    assert inputs == [
        {"reference": [0], "other": [1]},
        {"reference": [1], "other": [0]},
        {"reference": [0], "other": [1]},
    ]
    assert [choice["chosen"] for choice in choices] == ["lap_compare", "lap_compare", None]
    assert choices[2]["candidates"][0]["unused"] == [2]


@pytest.mark.parametrize(
    "workload",
    [*(each for each in catalog.workloads().values() if each.kind != "stage"), HASTY, LADDERED, SCRIPTED],
    ids=lambda workload: workload.name,
)
def test_schemas_have_valid_values(workload: Workload) -> None:
    chance = random.Random(workload.name)
    assert len(valid_values(workload.params, chance, 5)) == 5


def valid_values(params: type[Params], chance: random.Random, count: int) -> list[dict[str, Any]]:
    """Return generated parameters that the workload accepts; the schema does not say everything that it checks."""
    schema = params.model_json_schema()
    found: list[dict[str, Any]] = []
    for _ in range(100 * count):
        values = values_of(schema, chance)
        try:
            params.model_validate(values)
        except ValueError:
            continue
        found.append(values)
        if len(found) == count:
            break
    return found


async def test_any_valid_parameters_pass_through_the_form_unchanged(tmp_path: Path) -> None:
    seed = secrets.randbits(32)
    chance = random.Random(seed)
    workloads = [each for each in catalog.workloads().values() if each.kind != "stage"]
    seen: Counter[str] = Counter()
    async with console_modules(tmp_path) as modules:
        for workload in [*workloads, HASTY, LADDERED, SCRIPTED]:
            schema = workload.params.model_json_schema()
            values = valid_values(workload.params, chance, _VALUES)
            seen[workload.name] = len(values)
            back = await modules.call("parts/params/form.js", _ROUND_TRIP, schema, values)
            for value, result in zip(values, back, strict=True):
                assert result == {"params": value, "problems": {}}, (seed, workload.name, value)
            kinds = await modules.call("parts/params/form.js", _KINDS, schema)
            assert {name for name, kind in kinds if kind == "json"} <= _AS_JSON.get(workload.name, set())
    assert min(seen.values()) == _VALUES, (seed, seen)


async def test_the_form_names_what_is_wrong(tmp_path: Path) -> None:
    laps = catalog.workload("lap_compare").params.model_json_schema()
    entered = [
        ({"overlay_height_px": {"text": "179"}}, {"overlay_height_px": ["minimum", 180]}),
        ({"overlay_height_px": {"text": "1,5"}}, {"overlay_height_px": ["integer"]}),
        ({"overlay_height_px": {"text": "tall"}}, {"overlay_height_px": ["number"]}),
        ({"sectors": {"branch": 1, "entry": {"text": "0"}}}, {"sectors": ["above", 0]}),
        ({"sectors": {"branch": 1, "entry": {"text": ""}}}, {"sectors": ["fewer", 1]}),
        ({"sectors": {"json": "{"}}, {"sectors": ["json"]}),
    ]
    check = "({ fieldsOf, paramsOf }, schema, all) => all.map((one) => paramsOf(fieldsOf(schema), one).problems)"
    async with console_modules(tmp_path) as modules:
        found = await modules.call("parts/params/form.js", check, laps, [entries for entries, _ in entered])
    assert found == [problems for _, problems in entered]
