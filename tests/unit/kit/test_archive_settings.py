"""Settings of the archive: no bucket that everybody may read holds every tenant's events."""

from __future__ import annotations

from pydantic import SecretStr

from kit.settings import ArchiveSettings, S3Settings

S3 = S3Settings(
    endpoint_url="http://127.0.0.1:9000", bucket="saccade", access_key_id="a", secret_access_key=SecretStr("b")
)
PUBLIC = S3.model_copy(update={"public_url": "https://files.example.org"})


def test_the_archive_is_in_the_bucket_unless_told_otherwise() -> None:
    archive = ArchiveSettings(enabled=True, bucket="").s3(S3)
    assert archive is not None
    assert archive.bucket == "saccade"
    assert ArchiveSettings(enabled=False, bucket="other").s3(S3) is None


def test_a_public_bucket_has_no_archive() -> None:
    assert ArchiveSettings(enabled=True, bucket="").s3(PUBLIC) is None
    assert ArchiveSettings(enabled=True, bucket="saccade").s3(PUBLIC) is None
    archive = ArchiveSettings(enabled=True, bucket="private").s3(PUBLIC)
    assert archive is not None
    assert (archive.bucket, archive.public_url) == ("private", "")
