"""What an embedded system does not take over from the environment: another bus, another bucket, the user's key."""

from __future__ import annotations

import pytest
from pydantic import AliasChoices

from cli.settings import child_environment
from kit.settings import S3Settings


def test_no_variable_of_another_bucket_reaches_the_services(monkeypatch: pytest.MonkeyPatch) -> None:
    names = set()
    for field in S3Settings.model_fields.values():
        assert isinstance(field.validation_alias, AliasChoices | str)
        alias = field.validation_alias
        names |= {alias} if isinstance(alias, str) else {str(choice) for choice in alias.choices}
    assert {"R2_PUBLIC_URL", "S3_BUCKET"} <= names
    for name in names:
        monkeypatch.setenv(name, "https://elsewhere.example")
    assert names.isdisjoint(child_environment())
