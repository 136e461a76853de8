"""Check of an endpoint when it is created or changed. Pure; the sender checks every address it connects to."""

from __future__ import annotations

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.job import JobProgressed
from kit.network.address_guard import AddressGuard
from kit.network.urls import CheckedUrl, CredentialsInUrlError, parse_url, refusal_of
from services.notifier.webhooks.endpoints.email_addresses import SCHEME, EmailRecipients, check_addresses
from services.notifier.webhooks.endpoints.endpoint import Endpoint


def check_destination(
    endpoint: Endpoint, *, https_only: bool, guard: AddressGuard, recipients: EmailRecipients | None
) -> None:
    """Check that an endpoint's URL is one of its format, and that it may be sent to.

    Raises:
        SaccadeError: INVALID_PARAMETER, EMAIL_NOT_CONFIGURED.
    """
    if endpoint.format == "email":
        check_addresses(endpoint.url, recipients)
    elif endpoint.url.startswith(SCHEME):
        raise _invalid("an address for e-mail needs the format `email`.", "Send format: email, or an https URL.")
    else:
        check_url(endpoint.url, https_only=https_only, guard=guard)


def check_format(endpoint: Endpoint) -> None:
    """Check that an endpoint has nothing that its format cannot use.

    Raises:
        SaccadeError: INVALID_PARAMETER.
    """
    if endpoint.template is not None and endpoint.format == "cloudevents":
        raise _unusable("template", "only messages have one.", "Send a format such as slack, text or email.")
    if endpoint.format != "email":
        if endpoint.subject is not None:
            raise _unusable("subject", "only e-mails have one.", "Leave it out, or send format: email.")
        return
    if endpoint.headers:
        raise _unusable("headers", "e-mails have none.", "Leave them out.")
    if JobProgressed.type in endpoint.types:
        raise _unusable("types", "progress is not sent by e-mail.", "Leave out job.progressed.")


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
    return _unusable("url", message, hint)


def _unusable(field: str, message: str, hint: str) -> SaccadeError:
    return SaccadeError(ErrorCode.INVALID_PARAMETER, f"{field}: {message}", hint=hint)
