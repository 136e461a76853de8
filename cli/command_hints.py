"""Hints of errors in the words of the command line: commands and options in place of routes and fields of the API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

#: What only a caller of the API writes: methods, routes, headers, fields of a body, types of events.
API_SYNTAX: Final = re.compile(
    r"\b(GET|POST|PUT|PATCH|DELETE) [/a-z]|\bPOST\b|/v1/|/docs\b|Authorization|Idempotency-Key|Retry-After|content type"
    r"|next_cursor|max_cost_usd|ignore_verdict true|\bPUT\b|\bjob\.succeeded\b|\bSend (a|the) file\b"
)
_SENTENCE: Final = re.compile(r"(?<=[.!?;]) +")
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_PARAMETERS: Final = "`saccade workloads {workload}` shows its parameters."
_INPUTS: Final = "`saccade workloads {workload}` shows its inputs."
_FILE: Final = "Name a file, or the id of one of your uploads."
#: Codes whose next step is a command, an option or a file rather than a request.
_HINTS: Final = {
    "malformed_request": "Check the values: NaN and infinity are not valid JSON.",
    "body_too_large": "Shorten the values that you give.",
    "invalid_parameter": _PARAMETERS,
    "unknown_parameter": _PARAMETERS,
    "unknown_workload": "`saccade workloads` lists the server's workloads.",
    "backend_not_installed": "`saccade workloads` shows what is missing, and what installs it.",
    "missing_input": _INPUTS,
    "unknown_input": _INPUTS,
    "url_input_not_allowed": "Name a file instead of a URL.",
    "url_address_refused": "Name a URL on the public internet, or a file.",
    "url_too_slow": "Try again later, or download the file and name it instead of the URL.",
    "url_status_error": "Check that the URL is complete and has not expired, or name a file instead.",
    "url_size_mismatch": "Try again, or download the file and name it instead of the URL.",
    "url_answer_invalid": "Download the file and name it instead of the URL.",
    "url_fetch_pending": "Wait: the job is submitted when its files have been fetched.",
    "wrong_input_media": _INPUTS,
    "idempotency_key_invalid": "Use 1 to 255 printable ASCII characters, for example a new UUID.",
    "cursor_invalid": "Give a time or a duration with --since, for example 2h.",
    "not_found": "Check the address in --url or SACCADE_URL: this server has no such route.",
    "method_not_allowed": "Check the address in --url or SACCADE_URL.",
    "wrong_partition": "Set SACCADE_URL, or --url, to the one address of the whole system, not to one of its servers.",
    "unauthenticated": "Set SACCADE_API_KEY to your key.",
    "rate_limited": "Wait a minute and try again.",
    "upload_not_found": _FILE,
    "upload_not_completed": _FILE,
    "upload_already_ended": _FILE,
    "upload_bytes_missing": "Submit the file again: its bytes did not arrive.",
    "unsupported_media_type": "Name a video or a picture, with the usual ending of its name.",
    "media_no_video": "Name a file with a video track.",
    "job_not_retryable": "`saccade sessions open WORKLOAD` opens a new session.",
    "rule_not_found": "`saccade rules list` lists your rules.",
    "too_many_rules": "Delete one with: saccade rules delete RULE",
    "rule_limit_reached": "Raise it with: saccade rules update {rule} --jobs-per-day N, or wait until groups of the "
    "rule close: the message says which.",
    "job_not_found": "`saccade jobs` lists your jobs.",
    "job_already_ended": "`saccade retry {job_id}` runs a failed or cancelled job again.",
    "job_archived": "Submit it again with `saccade submit`.",
    "results_removed": "Submit the job again with `saccade submit`.",
    "artifact_not_found": "`saccade artifacts {job_id}` lists the job's artifacts.",
    "artifacts_not_ready": "Wait until the job ends: saccade events --job {job_id} --follow",
    "session_not_found": "`saccade sessions` lists your sessions.",
    "session_ended": "Open a new one with: saccade sessions open {workload}",
    "capture_refused": "`-p ignore_verdict=true` continues anyway.",
    "cost_cap_reached": "Submit it again with a higher --max-cost-usd.",
    "budget_exceeded": "`saccade budget` shows what is left; `saccade budget set --daily USD` raises it.",
    "budget_not_found": "Set one with: saccade budget set --daily USD",
    "webhook_not_found": "`saccade webhooks list` lists your endpoints.",
    "webhook_disabled": "Enable it with: saccade webhooks enable {webhook_id}",
    "dead_letter_settled": "`saccade deadletters show LETTER` says by whom.",
    "jobs_changed": "Count again with --dry-run, then send that number with --expect.",
    "job_plan_not_found": "Plan again: saccade jobs cancel, or saccade jobs retry.",
    "dead_letter_plan_not_found": "Plan again: saccade deadletters redrive, with filters in place of a letter.",
    "replay_not_found": "`saccade replay ls` lists those of the last 90 days.",
    "replay_count_differs": "`saccade replay show ID` shows the plan; start it with its count, or plan anew.",
    "replay_state_conflict": "`saccade replay show ID` shows its state.",
    "delivery_not_found": "`saccade webhooks deliveries {webhook_id}` lists them.",
}
#: Codes whose command is named beside a hint that is true for every caller.
_ADDED: Final = frozenset({"artifacts_not_ready", "job_already_ended"})
_UNNAMED: Final = {"workload": "WORKLOAD", "rule": "RULE", "job_id": "ID", "session_id": "ID", "webhook_id": "ID"}


def command_hint(code: str, hint: str, names: Mapping[str, Any] | None = None) -> str:
    """Return a hint without sentences about the API; the command that does the same stands in their place.

    ``names`` are the values of the command's arguments, for example ``job_id``.
    """
    sentences = [sentence for sentence in _SENTENCE.split(hint) if sentence]
    kept = [sentence for sentence in sentences if not API_SYNTAX.search(sentence)]
    if len(kept) == len(sentences) and code not in _ADDED:
        return hint
    known = {name: str(value) for name, value in (names or {}).items() if value}
    own = _HINTS.get(code, "").format_map(_UNNAMED | known)
    text = " ".join([*kept, own]).strip()
    # The rest of a sentence that was cut at a semicolon ends as a sentence does.
    return re.sub(r";(?= [A-Z`])|;$", ".", text)


def field_hint(hint: str) -> str:
    """Return the hint of a refused value that is no parameter of a workload but an option of the command."""
    sentences = [sentence for sentence in _SENTENCE.split(hint) if not API_SYNTAX.search(sentence)]
    return " ".join(sentences).replace("Leave gpu out", "Leave --gpu out") or "--help shows the options."


def unreachable_hint(url: str) -> str:
    """Return what to do about a server that does not answer: one of this machine can be started."""
    if (urlsplit(url).hostname or "") in _LOOPBACK:
        return "Start it with: saccade up"
    return "Check that the server runs, and the address in --url or SACCADE_URL."
