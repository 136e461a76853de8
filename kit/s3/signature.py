"""Signature version 4 of S3 requests: in their headers, or in the query of a presigned URL."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final
from urllib.parse import quote

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_SERVICE: Final = "s3"
#: The body of a presigned request is not known when it is signed.
_UNSIGNED_BODY: Final = "UNSIGNED-PAYLOAD"
#: Not escaped in addition to letters and digits.
_UNRESERVED: Final = "-_.~"


@dataclass(frozen=True)
class UnsignedRequest:
    """Request as it is signed, but for its body; ``path`` is escaped, ``query`` is not."""

    method: str
    host: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]

    @property
    def signed_names(self) -> str:
        """Names of the signed headers, which are all."""
        return ";".join(sorted(name.lower() for name in self.headers))

    def canonical(self, body_sha256: str) -> str:
        """Return the text that is signed."""
        values = {name.lower(): " ".join(value.split()) for name, value in self.headers.items()}
        lines = "".join(f"{name}:{values[name]}\n" for name in sorted(values))
        query = encoded_query(dict(sorted(self.query.items())))
        return "\n".join((self.method, self.path, query, lines, self.signed_names, body_sha256))


@dataclass(frozen=True)
class SigningKey:
    """Access key of a bucket, and the region that its signatures name."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    region: str

    def signed_headers(self, request: UnsignedRequest, body: bytes, at: datetime) -> dict[str, str]:
        """Return the headers to send, signature included."""
        body_sha256 = hashlib.sha256(body).hexdigest()
        own = {"Host": request.host, "X-Amz-Date": _timestamp(at), "X-Amz-Content-SHA256": body_sha256}
        complete = replace(request, headers={**request.headers, **own})
        names, signature = complete.signed_names, self._signature(complete, body_sha256, at)
        credential = f"{self.access_key_id}/{self._scope(at)}"
        authorization = f"{_ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
        return {**complete.headers, "Authorization": authorization}

    def presigned_query(self, request: UnsignedRequest, expires_s: int, at: datetime) -> str:
        """Return the query of a presigned URL; a request to the URL must have the same headers."""
        signed = replace(request, headers={**request.headers, "Host": request.host})
        own = {
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{self.access_key_id}/{self._scope(at)}",
            "X-Amz-Date": _timestamp(at),
            "X-Amz-Expires": str(expires_s),
            "X-Amz-SignedHeaders": signed.signed_names,
        }
        complete = replace(signed, query={**request.query, **own})
        return f"{encoded_query(complete.query)}&X-Amz-Signature={self._signature(complete, _UNSIGNED_BODY, at)}"

    def _scope(self, at: datetime) -> str:
        return f"{at:%Y%m%d}/{self.region}/{_SERVICE}/aws4_request"

    def _signature(self, request: UnsignedRequest, body_sha256: str, at: datetime) -> str:
        scope = self._scope(at)
        key = f"AWS4{self.secret_access_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        request_sha256 = hashlib.sha256(request.canonical(body_sha256).encode()).hexdigest()
        signed = "\n".join((_ALGORITHM, _timestamp(at), scope, request_sha256))
        return hmac.digest(key, signed.encode(), "sha256").hex()


def encoded_path(text: str) -> str:
    """Escape a path for a URL as S3 signs it: everything but letters, digits, ``-_.~`` and slashes."""
    return quote(text, safe=f"/{_UNRESERVED}")


def encoded_query(query: Mapping[str, str]) -> str:
    """Escape a query for a URL as S3 signs it, in the order given."""
    return "&".join(
        f"{quote(name, safe=_UNRESERVED)}={quote(value, safe=_UNRESERVED)}" for name, value in query.items()
    )


def _timestamp(at: datetime) -> str:
    return f"{at:%Y%m%dT%H%M%SZ}"
