"""Tests read one certificate instead of the system's, and programs that download find the system's again."""

from __future__ import annotations

import os

import pytest

from tests.harness.servers.loopback_tls import ONE_AUTHORITY, environment_with_authorities, trust_one_authority

VARIABLE = "SSL_CERT_FILE"


@pytest.mark.parametrize("inherited", [None, "/etc/system.pem"])
def test_the_systems_authorities_are_set_aside_and_come_back(
    monkeypatch: pytest.MonkeyPatch, inherited: str | None
) -> None:
    for name in (VARIABLE, f"TESTS_INHERITED_{VARIABLE}"):
        monkeypatch.setenv(name, "")  # so that the end of the test removes what is set here
        monkeypatch.delenv(name)
    if inherited:
        monkeypatch.setenv(VARIABLE, inherited)
    before = dict(os.environ)  # noqa: TID251 - what is changed here
    # In the process that distributes, and in a test process that inherits its environment.
    for _ in range(2):
        trust_one_authority()
        assert os.environ[VARIABLE] == ONE_AUTHORITY[VARIABLE]  # noqa: TID251
        assert environment_with_authorities() == before
