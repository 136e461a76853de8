"""Settings of the notifier: the bucket's are optional, but not half of them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from services.notifier.settings import bucket_settings

GIVEN = {
    "S3_ENDPOINT_URL": "http://127.0.0.1:9000",
    "S3_ACCESS_KEY_ID": "id",
    "S3_SECRET_ACCESS_KEY": "secret",
}


@pytest.fixture(autouse=True)
def _no_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENDPOINT_URL", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.delenv(f"S3_{name}", raising=False)


def test_a_notifier_without_a_bucket_starts_and_one_with_half_its_settings_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert bucket_settings() is None
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", "")  # as compose files set what is missing
    assert bucket_settings() is None
    for name in list(GIVEN)[:2]:
        monkeypatch.setenv(name, GIVEN[name])
        with pytest.raises(ValidationError):
            bucket_settings()
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", GIVEN["S3_SECRET_ACCESS_KEY"])
    found = bucket_settings()
    assert found
    assert found.endpoint_url == GIVEN["S3_ENDPOINT_URL"]
