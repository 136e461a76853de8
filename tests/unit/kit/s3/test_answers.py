"""XML of S3's answers: with and without its namespace, in pages, as an error, or no XML at all."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from kit.s3.answers import (
    InvalidAnswer,
    S3Answer,
    S3ErrorBody,
    completed_etag,
    error_in,
    keys_page,
    multipart_id,
    parts_document,
    parts_page,
)

NAMESPACES = ["", ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"']


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_an_error_is_found_in_any_namespace(namespace: str) -> None:
    body = f'<?xml version="1.0"?>\n<Error{namespace}><Code>SlowDown</Code><Region>eu-west-1</Region></Error>'
    assert error_in(body.encode()) == S3ErrorBody("SlowDown", "eu-west-1")


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"<ListBucketResult><Key><Error/></Key></ListBucketResult>", b"<Errors/>", b"<Error>cut off"],
)
def test_another_document_is_no_error(body: bytes) -> None:
    assert error_in(body) is None


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_the_ids_of_uploads_are_read(namespace: str) -> None:
    assert multipart_id(f"<Any{namespace}><UploadId>a/b==</UploadId></Any>".encode()) == "a/b=="
    assert completed_etag(f"<Any{namespace}><ETag>&quot;abc-2&quot;</ETag></Any>".encode()) == "abc-2"
    assert completed_etag(f"<Any{namespace}/>".encode()) == ""


@pytest.mark.parametrize("body", [b"", b"<html>", b"<Any/>", b"<Any><UploadId/></Any>"])
def test_a_start_without_an_id_is_invalid(body: bytes) -> None:
    with pytest.raises(InvalidAnswer):
        multipart_id(body)


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_parts_come_in_pages(namespace: str) -> None:
    part = "<Part><PartNumber>3</PartNumber><Size>5242880</Size><ETag>&quot;abc&quot;</ETag></Part>"
    more = "<NextPartNumberMarker>3</NextPartNumberMarker>"
    parts = [{"part_number": 3, "size_bytes": 5242880, "etag": '"abc"'}]
    for truncated, marker in (("true", "3"), ("false", None)):
        body = f"<Any{namespace}>{part}{more}<IsTruncated>{truncated}</IsTruncated></Any>"
        assert parts_page(body.encode()) == (parts, marker)


def test_keys_come_in_pages_and_may_be_escaped() -> None:
    listed = "<Contents><Key>a%2Fb+c%0A</Key></Contents><Contents><Key>%C3%A9</Key></Contents>"
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>next</NextContinuationToken>"
    escaped = f"<Any><EncodingType>url</EncodingType>{listed}{more}</Any>"
    assert keys_page(escaped.encode()) == (["a/b c\n", "é"], "next")
    assert keys_page(f"<Any>{listed}</Any>".encode()) == (["a%2Fb+c%0A", "%C3%A9"], None)
    with pytest.raises(InvalidAnswer):
        keys_page(b"not XML")


def test_the_document_that_completes_an_upload_names_its_parts_in_order() -> None:
    root = ET.fromstring(parts_document([(1, '"a<&>"'), (2, "b")]))
    found = [(part.findtext("{*}PartNumber"), part.findtext("{*}ETag")) for part in root]
    assert found == [("1", '"a<&>"'), ("2", "b")]


def test_an_entity_tag_is_without_quotes() -> None:
    assert [S3Answer({"ETag": '"abc"'}).etag, S3Answer({}).etag] == ["abc", ""]
