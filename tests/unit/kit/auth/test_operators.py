"""Keys of operators: their scope, and the tenants that they reach."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from contracts.errors import ErrorCode, SaccadeError
from kit.auth.api_keys import Authenticator, AuthSettings, Principal
from kit.auth.principal import tenant_of, tenants_of

_SCOPES = {
    "owner": ("acme", ["read", "write"]),
    "team": ("acme", ["read", "write", "operate"]),
    "everywhere": ("_system", ["operate"]),
}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Return a keys file; each key's secret is its id."""
    file = tmp_path / "keys.json"
    entries = [
        {"id": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), "tenant": tenant, "scopes": scopes}
        for name, (tenant, scopes) in _SCOPES.items()
    ]
    file.write_text(json.dumps(entries))
    return file


def _caller(keys: Path, name: str) -> Principal:
    headers = {"authorization": f"Bearer {name}.{name}"}
    return Authenticator(AuthSettings(api_keys_file=keys)).authenticate(headers)


@pytest.mark.parametrize(
    ("name", "asked", "reached"),
    [
        ("owner", None, "acme"),
        ("owner", "acme", "acme"),
        ("team", None, "acme"),
        ("everywhere", None, None),
        ("everywhere", "acme", "acme"),
        ("everywhere", "_system", "_system"),
    ],
)
def test_a_key_reaches_its_own_tenant_and_an_operator_of_all_every_one(
    keys: Path, name: str, asked: str | None, reached: str | None
) -> None:
    assert tenants_of(_caller(keys, name), asked) == reached


@pytest.mark.parametrize("name", ["owner", "team"])
@pytest.mark.parametrize("asked", ["rival", "_system", ""])
def test_a_tenants_key_reaches_no_other_tenant_whatever_its_scopes(keys: Path, name: str, asked: str) -> None:
    for choose in (tenants_of, tenant_of):
        with pytest.raises(SaccadeError) as refused:
            choose(_caller(keys, name), asked)
        assert refused.value.code is ErrorCode.FORBIDDEN


def test_what_is_about_one_tenant_needs_its_name_from_an_operator_of_all(keys: Path) -> None:
    operator = _caller(keys, "everywhere")
    assert tenant_of(operator, "acme") == "acme"
    for asked in (None, "_system"):
        with pytest.raises(SaccadeError) as refused:
            tenant_of(operator, asked)
        assert refused.value.code is ErrorCode.INVALID_PARAMETER


def test_scopes_do_not_contain_each_other(keys: Path) -> None:
    for name, missing in (("owner", "operate"), ("everywhere", "read"), ("everywhere", "write")):
        with pytest.raises(SaccadeError) as refused:
            _caller(keys, name).require(missing)  # type: ignore[arg-type]
        assert refused.value.code is ErrorCode.FORBIDDEN
    _caller(keys, "everywhere").require("read", "operate")


@pytest.mark.parametrize("scopes", [["read", "operate"], ["write"], []])
def test_a_key_of_the_system_owns_nothing(tmp_path: Path, scopes: list[str]) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps([{"id": "x", "sha256": "0" * 64, "tenant": "_system", "scopes": scopes}]))
    with pytest.raises(ValueError, match="SACCADE_API_KEYS_FILE"):
        Authenticator(AuthSettings(api_keys_file=file))


def test_the_user_of_this_machine_operates_it_and_a_caller_through_a_tunnel_does_not() -> None:
    here = Authenticator(AuthSettings()).authenticate({})
    assert "operate" in here.scopes
    assert tenants_of(here) is None
    assert tenant_of(here) == "local"
    tunnel = Authenticator(AuthSettings(allowed_hosts=("saccade.example.com",))).authenticate({})
    assert "operate" not in tunnel.scopes
    with pytest.raises(SaccadeError):
        tenants_of(tunnel, "acme")
