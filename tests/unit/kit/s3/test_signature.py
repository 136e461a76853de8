"""Signatures of S3 requests: the same as botocore's, which is installed for these tests only."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import botocore.auth
import botocore.session
import pytest
from botocore.awsrequest import AWSRequest
from botocore.client import BaseClient
from botocore.config import Config
from botocore.credentials import Credentials
from pydantic import SecretStr

from kit.s3.client import S3Client, S3Request
from kit.s3.signature import SigningKey, UnsignedRequest, encoded_path
from kit.settings import S3Settings

ACCESS_KEY_ID, SECRET, REGION = "AKIA/with+signs", "secret/with+signs=", "eu-central-1"
AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
EXPIRES_S = 777
KEYS = ["a.json", "results/job_1/lap one.mp4", "é/日本/a+b=c&d?e#f%20'(!)*~.bin", "a//b/../c/", "x" * 900]
SERVERS = [
    "http://127.0.0.1:9000",
    "https://s3.eu-central-1.amazonaws.com",
    "https://s3.example.org:443",
    "http://s3.example.org:80",
    "https://files.example.org/behind/a%20path",
]
DEFAULT_PORTS = {"http": 80, "https": 443}
UPLOAD_ID = "VXBsb2Fk/IElE+=="
#: Our request, and botocore's operation with its parameters.
OPERATIONS: list[tuple[str, dict[str, str], dict[str, str], str, dict[str, Any]]] = [
    ("GET", {}, {}, "get_object", {}),
    (
        "GET",
        {"response-content-disposition": 'inline; filename="a b.mp4"', "response-content-type": "video/mp4"},
        {},
        "get_object",
        {"ResponseContentDisposition": 'inline; filename="a b.mp4"', "ResponseContentType": "video/mp4"},
    ),
    ("PUT", {}, {"Content-Type": "video/mp4"}, "put_object", {"ContentType": "video/mp4"}),
    ("POST", {"uploads": ""}, {"Content-Type": "a/b; c=d"}, "create_multipart_upload", {"ContentType": "a/b; c=d"}),
    (
        "PUT",
        {"uploadId": UPLOAD_ID, "partNumber": "12"},
        {},
        "upload_part",
        {"UploadId": UPLOAD_ID, "PartNumber": 12},
    ),
    ("GET", {"uploadId": UPLOAD_ID}, {}, "list_parts", {"UploadId": UPLOAD_ID}),
    ("POST", {"uploadId": UPLOAD_ID}, {}, "complete_multipart_upload", {"UploadId": UPLOAD_ID}),
    ("DELETE", {"uploadId": UPLOAD_ID}, {}, "abort_multipart_upload", {"UploadId": UPLOAD_ID}),
]


@pytest.fixture(autouse=True)
def fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let botocore sign at the same time as we."""
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: AT)


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    """Return the address of a server."""
    return str(request.param)


@pytest.fixture(scope="module")
def reference(server: str) -> BaseClient:
    """Return botocore's client of a server."""
    return botocore.session.Session().create_client(
        "s3",
        region_name=REGION,
        endpoint_url=server,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


@pytest.fixture
def client(server: str) -> S3Client:
    """Return our client of a server that clients reach by another address than we."""
    settings = S3Settings(
        endpoint_url="http://10.0.0.1:1",
        public_endpoint_url=server,
        region=REGION,
        bucket="the.bucket",
        access_key_id=ACCESS_KEY_ID,
        secret_access_key=SecretStr(SECRET),
    )
    return S3Client(None, settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
@pytest.mark.parametrize(("method", "query", "headers", "operation", "params"), OPERATIONS)
def test_a_presigned_url_is_the_one_of_botocore(
    *,
    client: S3Client,
    reference: BaseClient,
    key: str,
    method: str,
    query: dict[str, str],
    headers: dict[str, str],
    operation: str,
    params: dict[str, Any],
) -> None:
    ours = client.presigned_url(S3Request(method, key, query, headers), EXPIRES_S, at=AT)
    theirs = reference.generate_presigned_url(
        operation, Params={"Bucket": "the.bucket", "Key": key, **params}, ExpiresIn=EXPIRES_S
    )
    one, other = urlsplit(ours), urlsplit(theirs)
    assert (one.scheme, one.hostname, one.path) == (other.scheme, other.hostname, other.path)
    assert (one.port or DEFAULT_PORTS[one.scheme]) == (other.port or DEFAULT_PORTS[other.scheme])
    assert sorted(parse_qsl(one.query, keep_blank_values=True)) == sorted(
        parse_qsl(other.query, keep_blank_values=True)
    )


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
@pytest.mark.parametrize("body", [b"", b"bytes"])
def test_signed_headers_are_those_of_botocore(key: str, body: bytes) -> None:
    path, query = encoded_path(f"/bucket/{key}"), {"list-type": "2", "prefix": "a b/é", "uploads": ""}
    headers = {"Content-Type": "video/mp4;  a=b"}
    ours = SigningKey(ACCESS_KEY_ID, SECRET, REGION).signed_headers(
        UnsignedRequest("PUT", "127.0.0.1:9000", path, query, headers), body, AT
    )
    request = AWSRequest("PUT", f"http://127.0.0.1:9000{path}", headers, body, params=query)
    request.context["payload_signing_enabled"] = True
    botocore.auth.S3SigV4Auth(Credentials(ACCESS_KEY_ID, SECRET), "s3", REGION).add_auth(request)
    assert ours["Authorization"] == request.headers["Authorization"]
    assert ours["X-Amz-Content-SHA256"] == request.headers["X-Amz-Content-SHA256"]


def test_the_secret_is_in_no_representation() -> None:
    assert SECRET not in repr(SigningKey(ACCESS_KEY_ID, SECRET, REGION))
