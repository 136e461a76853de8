"""What-if: golden windows of every version decide the same, changes are found, and unchanged code is never accused."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest

from services.whatif.answer import Answer, ask
from services.whatif.replay_settings import ReplaySettings
from services.whatif.virtual_time import VirtualLoop, run
from services.whatif.window import RecordedWindow, window_of
from tests.golden.seeded_changes import CHANGES, SeededChange, applied
from tests.golden.windows import Golden, golden_windows
from tests.harness.dispatch.varied_run import VARIED_WORKLOADS, run_varied

GOLDEN = golden_windows()
#: Runs of make soak, which makes all changes; make test makes a share of them.
FULL_RUNS = 200


def answer_of(window: RecordedWindow, settings: ReplaySettings, **changes: object) -> Answer:
    return ask(VirtualLoop(), window, VARIED_WORKLOADS, settings, changes)


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: f"{golden.version} {golden.name}")
def test_todays_dispatcher_decides_as_every_released_version_did(golden: Golden) -> None:
    told = golden.recorded()
    answer = answer_of(golden.window(), ReplaySettings(told["settings"]))
    expected = {finding["subject"] for finding in told["different"]}
    assert [one for one in answer.findings if one.subject not in expected] == []
    assert answer.answer == ("different" if expected else "same")
    assert answer.recorded_usd == pytest.approx(told["recorded_usd"], abs=0.005)
    assert sum(answer.compared.values()) > 500


def windows() -> list[tuple[RecordedWindow, ReplaySettings]]:
    return [(golden.window(), ReplaySettings(golden.recorded()["settings"])) for golden in GOLDEN]


def is_found(change: SeededChange, recorded: list[tuple[RecordedWindow, ReplaySettings]]) -> bool:
    with applied(change):
        return any(answer_of(window, settings).answer == "different" for window, settings in recorded)


@pytest.mark.soak
def test_changes_to_the_dispatcher_are_found(seed: int, soak_runs: int) -> None:
    assert len(CHANGES) >= 50
    share = random.Random(seed).sample(CHANGES, min(len(CHANGES), max(3, len(CHANGES) * soak_runs // FULL_RUNS)))
    recorded = windows()
    assert [str(change) for change in share if not is_found(change, recorded)] == [], f"--seed {seed}"


@pytest.mark.soak
def test_an_unchanged_dispatcher_is_never_accused(seed: int, soak_runs: int) -> None:
    if soak_runs < FULL_RUNS:
        seed = 101  # the share of make test is always the same; make soak draws
    for number in range(max(1, soak_runs // 6)):
        varied = run(run_varied(seed + number, 40))
        settings = ReplaySettings(varied.settings)
        answer = answer_of(window_of(varied.events, recorded_settings=varied.settings), settings)
        assert list(answer.findings) == [], f"--seed {seed + number}"


def test_a_pipeline_that_knew_an_older_state_of_its_jobs_is_not_accused() -> None:
    """In this run a stage's job fails while its pipeline, which does not know that yet, is being started."""
    varied = run(run_varied(33, 40))
    answer = answer_of(window_of(varied.events, recorded_settings=varied.settings), ReplaySettings(varied.settings))
    assert list(answer.findings) == []


def test_what_follows_from_a_delay_that_no_event_tells_is_unknown() -> None:
    """Events of the first dispatchers do not have the delay that an executor asked for when it refused a launch."""
    golden = next(one for one in GOLDEN if one.name == "late")
    window, told = golden.window(), golden.recorded()
    events = [one.stored for one in window.events]
    stripped = [replace(one, body=re.sub(rb',"retry_after_s":[^,}]*', b"", one.body)) for one in events]
    assert stripped != events
    old = answer_of(window_of(stripped, recorded_settings=told["settings"]), ReplaySettings(told["settings"]))
    assert old.answer == "unknown"
    assert {(one.kind, one.recorded, one.today) for one in old.findings} == {
        ("unknown", "job.failed", "the delay that the executor asked for is not in the record")
    }


def test_other_settings_change_what_is_decided_and_paid() -> None:
    """The money of attempts that were never recorded is told apart from that of recorded ones."""
    varied = run(run_varied(5, 12))
    window, settings = window_of(varied.events, recorded_settings=varied.settings), ReplaySettings(varied.settings)
    answer = answer_of(window, settings, gpu_climb_s=20.0, tenant_concurrency=2)
    assert answer.answer == "different"
    assert answer.findings[0].sequence == min(one.sequence for one in answer.findings if one.kind == "different")
    assert answer.money
    assert answer.money.modelled_attempts > 0
    assert answer.money.recorded_attempts > 0
    assert answer.money.recorded_usd <= answer.recorded_usd + 0.01
    same = answer_of(window, settings, slots=varied.settings["slots"])
    assert same.answer == "same"


def test_a_window_without_its_beginning_is_unknown() -> None:
    varied = run(run_varied(6, 20))
    settings = ReplaySettings(varied.settings)
    middle = len(varied.events) // 2
    cut = answer_of(window_of(varied.events[middle:], recorded_settings=varied.settings), settings)
    assert cut.answer == "unknown"
    assert {one.today for one in cut.findings} >= {"its first events are not in the window"}
    whole = window_of(varied.events[middle:], varied.events[:middle], recorded_settings=varied.settings)
    assert answer_of(whole, settings).answer == "same"
