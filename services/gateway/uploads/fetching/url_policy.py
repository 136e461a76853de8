"""Permission to fetch a URL, and the name and type of its file before it is fetched."""

from __future__ import annotations

import mimetypes
from typing import Final, Literal
from urllib.parse import unquote

from contracts.errors import ErrorCode, SaccadeError
from kit.auth.api_keys import AuthSettings
from kit.network.address_guard import AddressGuard
from kit.network.download import check_url
from kit.network.urls import CheckedUrl
from services.gateway.settings import UrlInputSettings
from services.gateway.uploads.fetching.records import UploadFetch

#: Why a file cannot be fetched, besides what is wrong with the file.
URL_ERRORS: Final = (
    ErrorCode.URL_INVALID,
    ErrorCode.URL_ADDRESS_REFUSED,
    ErrorCode.URL_UNREACHABLE,
    ErrorCode.URL_TOO_SLOW,
    ErrorCode.URL_STATUS_ERROR,
    ErrorCode.URL_TOO_MANY_REDIRECTS,
    ErrorCode.URL_SIZE_MISMATCH,
    ErrorCode.URL_NOT_MEDIA,
    ErrorCode.URL_ANSWER_INVALID,
)
#: Why a job whose inputs are fetched is never submitted, by what was found in its files.
FILE_ERRORS: Final = (
    ErrorCode.UPLOAD_TOO_LARGE,
    ErrorCode.UPLOAD_EMPTY,
    ErrorCode.UPLOAD_CHECKSUM_MISMATCH,
    ErrorCode.UPLOAD_ALREADY_ENDED,
    ErrorCode.WRONG_INPUT_MEDIA,
    ErrorCode.MEDIA_UNDECODABLE,
    ErrorCode.MEDIA_NO_VIDEO,
    ErrorCode.MEDIA_TOO_LARGE,
    ErrorCode.ARCHIVE_UNREADABLE,
    ErrorCode.ARCHIVE_UNSAFE,
    ErrorCode.ARCHIVE_ENCRYPTED,
    ErrorCode.ARCHIVE_NESTED,
    ErrorCode.ARCHIVE_TOO_LARGE,
    ErrorCode.ARCHIVE_EMPTY,
)
_EVERYWHERE: Final = ("0.0.0.0/0", "::/0")
_FILENAME_CHARS: Final = 255
_PLAIN_NAME: Final = "input"
#: Of a name without a known ending.
_UNKNOWN_TYPE: Final = "application/octet-stream"


class UrlPolicy:
    """The operator's permission to fetch inputs, and the addresses that it is for."""

    def __init__(self, settings: UrlInputSettings, auth: AuthSettings) -> None:
        """Follow the settings; what is not set follows from the mode."""
        allowed = settings.effective_inputs(embedded=auth.embedded)
        networks = (*(_EVERYWHERE if allowed == "any" else ()), *settings.allowed_networks)
        self._enabled = allowed != "off"
        self.settings = settings
        self.guard = AddressGuard.allowing(networks)

    def check(self, url: str) -> CheckedUrl:
        """Check a URL without resolving its name.

        Raises:
            SaccadeError: URL_INPUT_NOT_ALLOWED, URL_INVALID, URL_ADDRESS_REFUSED.
        """
        self.check_enabled()
        return check_url(url, self.guard)

    def check_enabled(self) -> None:
        """Check that this server fetches inputs at all.

        Raises:
            SaccadeError: URL_INPUT_NOT_ALLOWED.
        """
        if not self._enabled:
            raise SaccadeError(ErrorCode.URL_INPUT_NOT_ALLOWED)


def shown_url(url: CheckedUrl) -> str:
    """Return a URL for events and answers: without its query, which may hold a signature or a token."""
    return f"{url.origin}{url.as_written.raw_path}"


def name_in(url: CheckedUrl) -> str:
    """Return the name of the file that a URL ends with."""
    name = unquote(url.as_written.raw_path.rpartition("/")[2], errors="replace")
    printable = "".join(char for char in name if char.isprintable())
    return printable[-_FILENAME_CHARS:] or _PLAIN_NAME


def type_by_name(filename: str) -> str:
    """Guess the content type of a file by the ending of its name."""
    return mimetypes.guess_type(filename)[0] or _UNKNOWN_TYPE


def new_fetch(
    policy: UrlPolicy,
    tenant: str,
    upload_id: str,
    url: str,
    *,
    filename: str | None = None,
    content_type: str | None = None,
    sha256: str | None = None,
    media: Literal["video", "image", "archive"] | None = None,
    job_id: str | None = None,
) -> UploadFetch:
    """Return what is to be fetched for an upload, if the URL is allowed.

    Raises:
        SaccadeError: as ``UrlPolicy.check``.
    """
    checked = policy.check(url)
    filename = filename or name_in(checked)
    return UploadFetch(
        tenant=tenant,
        id=upload_id,
        url=url,
        shown_url=shown_url(checked),
        filename=filename,
        content_type=content_type or type_by_name(filename),
        sha256=sha256,
        media=media,
        job_id=job_id,
    )
