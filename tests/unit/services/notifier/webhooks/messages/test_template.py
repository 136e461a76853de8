"""Templates: only text and named values come out, whatever is written, in time that grows with it."""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.notifier.webhooks.messages.template import (
    TEMPLATE_CHARS,
    VALUE_CHARS,
    TemplateError,
    parse_template,
    render_template,
    template_pattern,
)
from services.notifier.webhooks.messages.values import NAMES

VALUES = {"job.id": "job_1", "error.message": "{{job.id}} {0} %s ${x} {% raw %}", "job.title": "Lap"}
#: Pieces that templates of other languages are made of, beside any text.
PIECES = st.sampled_from(
    ["{{", "}}", "{", "}", "{{job.id}}", "{{ error.message }}", "{{job.id.__class__}}", "{{7*7}}", "{%", "%}", "{0}",
     "{job.id}", "%s", "$x", "${job.id}", "__", "|", "!r", ":>999999", "\\", "\x00", "\n", " ", "job.id"]
)  # fmt: skip
HOSTILE = st.lists(PIECES | st.text(max_size=5), max_size=40).map("".join)


def rendered(template: str, values: dict[str, str] = VALUES) -> str:
    return render_template(parse_template(template, NAMES), values)


def test_values_stand_in_the_place_of_their_names() -> None:
    assert rendered("{{job.title}} failed ({{ job.id }})") == "Lap failed (job_1)"
    assert rendered("{{job.id}}{{job.id}}") == "job_1job_1"
    assert rendered("no name") == "no name"


def test_a_value_that_is_missing_is_empty() -> None:
    assert rendered("a{{budget.period}}b") == "ab"


@pytest.mark.parametrize(
    "template",
    ["{{job.id.__class__}}", "{{job['id']}}", "{{7*7}}", "{{job.id!r}}", "{{job.id:>9}}", "{{}}", "{{ }}",
     "{{{job.id}}}", "{{job.id|upper}}", "{{JOB.ID}}", "{{ job.id\n}}", "{{\u00a0job.id}}", "{{job.id }"],
)  # fmt: skip
def test_what_is_no_known_name_is_refused(template: str) -> None:
    with pytest.raises(TemplateError):
        parse_template(template, NAMES)


def test_a_refusal_names_the_names() -> None:
    with pytest.raises(TemplateError) as raised:
        parse_template("{{job.owner}}", NAMES)
    assert str(raised.value).startswith("There is no value 'job.owner'. The names are: alert.condition, alert.probab")
    assert all(name in str(raised.value) for name in NAMES)


@given(HOSTILE)
@example("{{error.message}}")
def test_only_its_own_text_and_the_values_come_out(template: str) -> None:
    try:
        parts = parse_template(template, NAMES)
    except TemplateError:
        return
    # What stands between the names is unchanged, and a value is never read as a template again.
    expected = re.sub(r"\{\{ *([a-z._]+) *\}\}", lambda name: VALUES.get(name[1], ""), template)
    assert render_template(parts, VALUES) == expected


@given(HOSTILE | st.from_regex(template_pattern(NAMES), fullmatch=True))
def test_the_pattern_of_the_document_is_what_is_accepted(template: str) -> None:
    try:
        parse_template(template, NAMES)
        accepted = True
    except TemplateError:
        accepted = False
    assert (re.fullmatch(template_pattern(NAMES)[1:-1], template) is not None) == accepted


def test_a_long_value_is_cut() -> None:
    assert rendered("{{job.id}}{{job.id}}", {"job.id": "x" * 10**6}) == "x" * 2 * VALUE_CHARS


@pytest.mark.parametrize("piece", ["{{", "{{job.id}}", "{", "}}", "{{job.id", "{{ ", "{ {"])
def test_the_longest_template_takes_no_time(piece: str) -> None:
    """A thousand times the limit shows whether time grows with the length or with its square."""
    template = piece * (1000 * TEMPLATE_CHARS // len(piece))
    started = time.process_time()
    with contextlib.suppress(TemplateError):
        render_template(parse_template(template, NAMES), VALUES)
    assert time.process_time() - started < 5


def test_the_document_lists_every_name() -> None:
    text = (Path(__file__).parents[6] / "docs" / "messages.md").read_text()
    rows = {row[0]: row[1] for row in re.findall(r"^\| `\{\{([a-z._]+)\}\}` \| (.+) \|$", text, re.MULTILINE)}
    assert rows == {name: value.meaning for name, value in NAMES.items()}
