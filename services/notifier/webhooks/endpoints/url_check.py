"""Check of a webhook's URL when an endpoint is created. Pure; the sender checks every address it connects to."""

from __future__ import annotations

from contracts.errors import ErrorCode, SaccadeError
from kit.network.address_guard import AddressGuard
from kit.network.urls import CheckedUrl, CredentialsInUrlError, parse_url, refusal_of


def check_url(url: str, *, https_only: bool, guard: AddressGuard) -> CheckedUrl:
    """Check the URL of a webhook without resolving its name; the error says what to change.

    Raises:
        SaccadeError: INVALID_PARAMETER.
    """
    try:
        parsed = parse_url(url)
    except CredentialsInUrlError:
        message = "The URL contains a user name or a password: send them as a header of the endpoint."
        raise _invalid(message, "Send a URL like https://example.com/hooks/saccade.") from None
    except ValueError as error:
        raise _invalid(str(error), "Send a URL like https://example.com/hooks/saccade.") from None
    if https_only and parsed.scheme != "https":
        raise _invalid("http is not encrypted.", "Send a URL that begins with https://.")
    if why := refusal_of(parsed, guard):
        hint = "Send a public address, or have the operator add its network to NOTIFIER_WEBHOOK_ALLOWED_NETWORKS."
        raise _invalid(f"{parsed.host} is not an address that webhooks may go to ({why}).", hint)
    return parsed


def _invalid(message: str, hint: str) -> SaccadeError:
    return SaccadeError(ErrorCode.INVALID_PARAMETER, f"url: {message}", hint=hint)
