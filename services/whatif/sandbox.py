"""Runs a what-if in a process of its own, without an environment, credentials, network or files to write."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Final

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.settings import CatalogSettings
from services.whatif.child_input import Question, encode_question

#: Longest time of one answer.
ANSWER_S: Final = 1800.0


def ask_in_sandbox(question: Question, limit_s: float = ANSWER_S) -> dict[str, Any]:
    """Return the answer to a question.

    Raises:
        SaccadeError: INTERNAL, when the replay fails.
    """
    # The only thing that it is told besides: which packages have workers.
    environment = {"WORKER_CATALOG": CatalogSettings().catalog} if CatalogSettings().catalog else {}
    try:
        child = subprocess.run(
            [sys.executable, "-I", "-m", "services.whatif"],
            input=encode_question(question),
            capture_output=True,
            env=environment,
            cwd="/",
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SaccadeError(
            ErrorCode.INTERNAL, f"The replay took longer than {limit_s:g} s.", hint="Ask for a shorter window."
        ) from None
    if child.returncode:
        told = child.stderr.decode(errors="replace").strip().splitlines()
        raise SaccadeError(ErrorCode.INTERNAL, f"The replay failed: {told[-1] if told else child.returncode}.")
    answer: dict[str, Any] = json.loads(child.stdout)
    return answer
