"""When a watch rule fires: debounce, cooldown, and not again while it stays true."""

from __future__ import annotations

from contracts.events.session import SessionText, ShownFrame
from modal_workers.vision_stream.rules import WatchRules
from modal_workers.vision_stream.spec import WatchRule


def text(chunk: int, **confidences: float) -> SessionText:
    return SessionText(
        run_id="run",
        chunk=chunk,
        text=f"text {chunk}",
        frames=[ShownFrame(seq=10 * chunk + number, captured_at_s=chunk + 0.1 * number) for number in range(2)],
        start_s=float(chunk),
        end_s=chunk + 0.5,
        rules=confidences,
    )


def fired_at(rule: WatchRule, confidences: list[float | None]) -> list[int]:
    rules = WatchRules([rule])
    chunks = []
    for chunk, confidence in enumerate(confidences):
        given = {} if confidence is None else {rule.name: confidence}
        chunks += [chunk for _ in rules.update(text(chunk, **given))]
    return chunks


def rule(**more: object) -> WatchRule:
    return WatchRule.model_validate({"name": "dropped", "condition": "the cube is dropped", "cooldown_s": 0.0} | more)


def test_it_fires_at_the_first_true_chunk_and_again_only_after_a_false_one() -> None:
    assert fired_at(rule(), [0.2, 0.6, 0.9, 0.9, 0.4, 0.5, 0.9]) == [1, 5]


def test_a_probability_at_the_threshold_is_true() -> None:
    assert fired_at(rule(threshold=0.7), [0.6999, 0.7]) == [1]


def test_so_many_consecutive_chunks_are_needed() -> None:
    assert fired_at(rule(min_chunks=3), [0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9]) == [5]


def test_not_twice_within_the_cooldown_but_after_it_if_it_is_still_true() -> None:
    values = [0.9, 0.1, 0.9, 0.1, 0.9, 0.9, 0.9]
    assert fired_at(rule(cooldown_s=3.0), values) == [0, 4]
    assert fired_at(rule(cooldown_s=5.0), values) == [0, 5]


def test_a_chunk_without_a_probability_says_nothing() -> None:
    assert fired_at(rule(min_chunks=2), [0.9, None, 0.9, None, 0.9]) == [2]


def test_the_frames_are_those_of_the_true_chunks() -> None:
    rules = WatchRules([rule(min_chunks=2)])
    for chunk, confidence in ((0, 0.9), (1, 0.1), (2, 0.8)):
        assert rules.update(text(chunk, dropped=confidence)) == []
    (fired,) = rules.update(text(3, dropped=0.75))
    assert [frame.seq for frame in fired.frames] == [20, 21, 30, 31]
    assert (fired.confidence, fired.text.chunk) == (0.75, 3)


def test_a_frame_of_two_chunks_backs_an_alert_once() -> None:
    rules = WatchRules([rule(min_chunks=2)])
    first, second = text(0, dropped=0.9), text(1, dropped=0.9)
    rules.update(first)
    (fired,) = rules.update(second.model_copy(update={"frames": [first.frames[-1], *second.frames]}))
    assert [frame.seq for frame in fired.frames] == [0, 1, 10, 11]


def test_each_rule_has_its_own_state_and_a_reset_forgets_all() -> None:
    rules = WatchRules([rule(), rule(name="held", min_chunks=2)])
    assert [one.rule.name for one in rules.update(text(0, dropped=0.9, held=0.9))] == ["dropped"]
    assert [one.rule.name for one in rules.update(text(1, dropped=0.9, held=0.9))] == ["held"]
    rules.reset()
    assert [one.rule.name for one in rules.update(text(2, dropped=0.9, held=0.9))] == ["dropped"]


def test_chunks_of_two_cameras_are_counted_apart() -> None:
    """They take turns: one that sees it all the time fires once, with its own frames, and the other one never."""
    rules = WatchRules([rule(min_chunks=2)])
    fired = []
    for chunk in range(8):
        camera, confidence = ("left", 0.9) if chunk % 2 == 0 else ("right", 0.1)
        fired += rules.update(text(chunk, dropped=confidence).model_copy(update={"source": camera}))
    assert [one.text.chunk for one in fired] == [2]
    assert [frame.seq for frame in fired[0].frames] == [0, 1, 20, 21]


def test_a_clock_that_was_set_back_does_not_silence_a_rule() -> None:
    rules = WatchRules([rule(cooldown_s=10.0)])
    late = text(1, dropped=0.9).model_copy(update={"end_s": 3600.0})
    assert len(rules.update(late)) == 1
    assert rules.update(text(2, dropped=0.1)) == []
    assert len(rules.update(text(3, dropped=0.9))) == 1
