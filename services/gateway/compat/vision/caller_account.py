"""Modal account in the headers of a caller of the replaced vision system."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from contracts.caller_account import CallerAccount
from contracts.errors import ErrorCode, SaccadeError


def caller_account(headers: Mapping[str, str]) -> CallerAccount | None:
    """Return the account of a request; None without a token. Values are trimmed, and empty ones count as absent.

    Raises:
        SaccadeError: INVALID_PARAMETER, for half a token or an impossible name; the message repeats no value.
    """
    given = {
        name: value
        for name in ("token-id", "token-secret", "app-name", "class-name")
        if (value := headers.get(f"x-modal-{name}", "").strip())
    }
    if not given.keys() & {"token-id", "token-secret"}:
        return None
    names = {"token-id": "token_id", "token-secret": "token_secret", "app-name": "app_name"}
    fields = {names.get(name, "function_name"): value for name, value in given.items()}
    try:
        return CallerAccount.model_validate(fields)
    except ValidationError as error:
        wrong = sorted({"x-modal-" + str(fault["loc"][0]).replace("_", "-") for fault in error.errors()})
        text = ", ".join(wrong).replace("function-name", "class-name")
        raise SaccadeError(ErrorCode.INVALID_PARAMETER, f"These headers are missing or not valid: {text}.") from None
