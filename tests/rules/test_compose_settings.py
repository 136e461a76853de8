"""Compose passes the services every setting that the documents name, and nothing that no service reads."""

from __future__ import annotations

import importlib
import re
from functools import cache
from typing import Any

import pytest
import yaml
from pydantic import AliasChoices
from pydantic_settings import BaseSettings

from kit.settings import S3Settings
from tests.rules.tree import ROOT, files

#: Modules with the settings of each service; a worker's settings are the dispatcher's, whose children the workers are.
MODULES = {
    "gateway": (
        "services.gateway.settings", "kit.settings", "kit.auth.api_keys", "modal_workers.settings",
        "modal_workers.vision_stream.settings",
    ),
    "dispatcher": (
        "services.dispatcher.settings", "kit.settings", "kit.auth.api_keys", "modal_workers.settings",
        "modal_workers.vision_stream.settings", "modal_workers.badminton.settings", "modal_workers.runtime.settings",
    ),
    "notifier": ("services.notifier.settings", "kit.settings", "kit.auth.api_keys"),
    "bucket-proxy": ("services.bucket_proxy.settings",),
}  # fmt: skip
#: Documented settings that compose does not pass, and why.
NOT_PASSED = {
    "NATS_CREDENTIALS_FILE": "the NATS of compose has users with passwords",
    "NATS_CREDENTIALS": "the NATS of compose has users with passwords",
    "NATS_INBOX_PREFIX": "the NATS of compose has users with passwords",
    "NOTIFIER_SANDBOX_NATS_CREDENTIALS_FILE": "the NATS of compose has users with passwords",
    "WORKER_CATALOG": "the images hold the workers of this repository",
    "WORKER_CACHE_FOLDER": "workers on Modal have it",
    "INGEST_URL": "workers on Modal get it from the dispatcher",
    "INGEST_TOKEN": "workers on Modal get it from the dispatcher",
    "HF_TOKEN": "no worker that runs here inherits it",
    "VISION_HUGGING_FACE_SECRET": "`saccade modal deploy` reads it",
    "VISION_VLLM_VERSION": "`saccade modal deploy` reads it",
    "VISION_WEIGHTS_FOLDER": "the workers' own; the gateway loads no weights",
    "VISION_DOWNLOAD": "the workers' own; the gateway loads no weights",
}
#: Settings of the kit that only some services read.
NOT_READ = {"dispatcher": {"NOTIFIER_WEBHOOK_ALLOWED_NETWORKS", "NOTIFIER_WEBHOOK_HTTPS_ONLY"}}
#: Read by libraries and by nginx, not by a settings class.
READ_BY_OTHERS = {"MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"}


def classes(module: str) -> list[type[BaseSettings]]:
    """Return the settings classes of a module."""
    found = [value for value in vars(importlib.import_module(module)).values() if isinstance(value, type)]
    return [value for value in found if issubclass(value, BaseSettings) and value.__module__ == module]


def variables(found: type[BaseSettings]) -> set[str]:
    """Return the environment variables that a settings class reads."""
    names: set[str] = set()
    for name, field in found.model_fields.items():
        alias = field.validation_alias
        own = (str(found.model_config.get("env_prefix", "")) + name).upper()
        names |= {str(one) for one in alias.choices} if isinstance(alias, AliasChoices) else {str(alias or own)}
    return names


def read_by(service: str) -> set[str]:
    read = [variables(found) for module in MODULES[service] for found in classes(module)]
    return set().union(*read) - NOT_READ.get(service, set())


@cache
def services(*overrides: str) -> dict[str, Any]:
    """Return the services of compose with the variables that overrides add."""
    merged: dict[str, Any] = {}
    for name in ("docker-compose.yml", *(f"deploy/{override}" for override in overrides)):
        for service, declared in yaml.safe_load((ROOT / name).read_text())["services"].items():
            merged.setdefault(service, {}).setdefault("environment", {}).update(declared.get("environment", {}))
    return merged


def _set_by_the_image(service: str) -> set[str]:
    text = (ROOT / "deploy/docker" / f"{service.replace('-', '_')}.Dockerfile").read_text()
    return set(re.findall(r"\b([A-Z][A-Z0-9_]+)=", text))


def _documented() -> set[str]:
    pages = [path for path in files() if path == "README.md" or re.fullmatch(r"docs/[\w-]+\.md", path)]
    # It names all settings, and says of each whether compose passes it.
    pages.remove("docs/settings.md")
    text = "\n".join((ROOT / page).read_text() for page in [*pages, "deploy/example.env"])
    return set(re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", text))


@pytest.mark.parametrize("service", MODULES)
def test_compose_passes_every_setting_that_the_documents_name(service: str) -> None:
    passed = services("compose.bucket.yml", "compose.modal.yml")[service]["environment"].keys()
    wanted = (read_by(service) & _documented()) - _set_by_the_image(service) - NOT_PASSED.keys()
    assert sorted(wanted - passed) == []


@pytest.mark.parametrize("service", MODULES)
def test_compose_passes_nothing_that_the_service_does_not_read(service: str) -> None:
    passed = services("compose.bucket.yml", "compose.modal.yml")[service]["environment"].keys()
    assert sorted(passed - read_by(service) - READ_BY_OTHERS) == []


def test_what_is_not_passed_is_a_setting_all_the_same() -> None:
    assert set(NOT_PASSED) <= set().union(*(read_by(service) for service in MODULES))


@pytest.mark.parametrize("service", ["gateway", "dispatcher", "notifier"])
def test_a_service_starts_with_the_variables_of_compose_unset(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose makes empty variables of unset ones: every settings class takes them for what it has by default."""
    for name, value in services()[service]["environment"].items():
        monkeypatch.setenv(name, re.sub(r"\$\{\w+:?-([^}]*)\}", r"\1", value))
    monkeypatch.setenv("SACCADE_API_KEYS_FILE", str(ROOT / "deploy/development_keys.json"))
    for found in [found for module in MODULES[service] for found in classes(module)]:
        # Its two files are named by deploy/compose.modal.yml.
        if found.__name__ != "ModalSettings" and not any(field.is_required() for field in found.model_fields.values()):
            found()


@pytest.mark.parametrize(
    ("given", "endpoint", "bucket", "key"),
    [
        (
            {"B2_S3_ENDPOINT": "s3.b2.example", "B2_BUCKET": "b", "B2_KEY_ID": "i", "B2_APP_KEY": "k"},
            "https://s3.b2.example", "b", "i",
        ),
        (
            {"R2_ENDPOINT_URL": "https://a.r2.example", "R2_BUCKET_NAME": "r", "AWS_ACCESS_KEY_ID": "j",
             "AWS_SECRET_ACCESS_KEY": "k"},
            "https://a.r2.example", "r", "j",
        ),
        (
            {"S3_ENDPOINT_URL": "https://s3.example", "S3_BUCKET": "s", "AWS_ACCESS_KEY_ID": "l",
             "AWS_SECRET_ACCESS_KEY": "k"},
            "https://s3.example", "s", "l",
        ),
    ],
)  # fmt: skip
def test_a_providers_bucket_takes_the_place_of_the_one_here(
    given: dict[str, str], endpoint: str, bucket: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where .env still has the keys of the S3 server that compose starts."""
    environment = given | {"S3_ACCESS_KEY_ID": "saccade", "S3_PUBLIC_ENDPOINT_URL": "http://127.0.0.1:9000"}
    for name, value in services("compose.bucket.yml")["gateway"]["environment"].items():
        shown = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: environment.get(found[1], found[2]), value)
        monkeypatch.setenv(name, shown)
    settings = S3Settings()
    assert (settings.endpoint_url, settings.bucket, settings.access_key_id) == (endpoint, bucket, key)
    assert settings.public_endpoint_url == endpoint
