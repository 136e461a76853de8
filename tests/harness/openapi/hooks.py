"""Check that schemathesis makes of each answer to a request that is valid by the document: no rule is unstated.

Schemathesis imports this module (SCHEMATHESIS_HOOKS); its own check of valid requests knows statuses, not codes.
"""

from __future__ import annotations

import re
from typing import Any, Final

import schemathesis

#: Codes of requests that break a rule of their form. Others are about what the server has, knows or is set to.
FORM: Final = frozenset({
    "malformed_request", "invalid_parameter", "unknown_parameter", "joints_invalid", "idempotency_key_invalid",
    "cursor_invalid", "body_too_large", "unsupported_media_type", "upload_empty", "upload_too_large",
})  # fmt: skip
#: Rules that JSON Schema cannot state, by the beginning of the problem's detail; the document states them in words.
IN_WORDS: Final = (
    r"since and until must enclose 1 to 400 days",
    # Across fields, or bytes instead of characters.
    r"metadata has \d+ bytes as JSON",
    r"body: sample \d+ has \d+ values for",
    r"headers: two headers have the same name",
    r"\w+ runs on a CPU and does not use a GPU",
    # GET /v1/workloads has their schemas; another document is made of these.
    r"params[/:]",
    # By the inputs of the workload.
    r"match: minimum_bytes is larger than maximum_bytes",
    r"group/(needs|minimum): the inputs of",
    r".* cannot fill the inputs of",
    # By the state of the upload.
    r"The upload is sent by one PUT",
    r"The upload has \d+ parts",
    r"\w+ with these values is not a request of this upload",
    # By the stream that the cursor is of.
    r"The cursor (is invalid|belongs to a stream that no longer exists)",
    r"What the cursor stands after is no longer stored",
    r"This cursor is not one of today's stream",
    # Between two points of the history, by what is stored.
    r"since is the later point",
    # Between the target of a replay, its start and what belongs to them.
    r"body: as_new is for webhooks",
    r"body: start needs expected_count",
    r"A replay of more than \d+ events, several tenants or a sandbox needs a reason",
    # Between the format of an endpoint and what only some formats have.
    r"template: only messages have one",
    r"subject: only e-mails have one",
    r"headers: e-mails have none",
    r"types: progress is not sent by e-mail",
    # By what is a public host in its usual form, and the operator's settings; what begins so is about the pattern.
    r"url: (?!The URL )",
)
#: Title of the document that is made of the workloads' own schemas, and what they state in words.
PARAMETERS: Final = "Parameters of the workloads"
OF_PARAMETERS: Final = (
    r"params: \d+ frames cannot be \d+ equal rings",
    r"params: elevation_min_deg is above elevation_max_deg",
    r"params/object_hint: (give either x and y, or box|box is left, top, right, bottom, and has an area)",
    r"params: max_lap_s must be at least [\d.]+ times min_lap_s",
    r"params/sectors: sector boundaries must rise",
    r"params/gripper_from_camera: the (upper left|last row)",
    r"params/rules: the rules' names must differ",
    r"params/answer_schema: ",
    r"params/segments/(reference|other): the segment from [^ ]+ s to [^ ]+ s is shorter than",
)


@schemathesis.check
def no_unstated_rule(ctx: Any, response: Any, case: Any) -> None:
    """Fail when a request that is valid by the document is refused for its form."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code < 400:
        return
    problem = response.json()
    title = case.operation.schema.raw_schema["info"]["title"]
    in_words = OF_PARAMETERS if title == PARAMETERS else IN_WORDS
    if problem["code"] in FORM and not any(re.match(words, problem["detail"]) for words in in_words):
        raise AssertionError(f"{problem['code']}: {problem['detail'][:300]}")
