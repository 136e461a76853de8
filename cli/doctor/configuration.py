"""Settings: do all of them parse, are their names spelt right, are secrets chosen, is the keys file readable."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import AliasChoices, ValidationError
from pydantic_settings import BaseSettings

from cli.doctor.report_line import ReportLine, fail, ok
from cli.doctor.run import in_thread
from cli.doctor.settings import compose_defaults, compose_text, read_file, variables
from cli.doctor.system import System
from cli.doctor.variables import judge_names, judge_passed_on, judge_secrets
from cli.settings import ROOT
from kit.settings import INHERITED, invalid_settings

#: Modules with settings, of which each service reads its own; those with heavy imports are left out.
_MODULES: Final = (
    "cli.settings", "kit.settings", "kit.auth.api_keys", "modal_workers.settings", "modal_workers.runtime.settings",
    "modal_workers.vision_stream.settings", "modal_workers.badminton.settings", "services.bucket_proxy.settings",
    "services.gateway.settings", "services.dispatcher.settings", "services.notifier.settings",
)  # fmt: skip
#: Files that name variables which no settings class has: of compose, of NATS's configuration, of scripts.
_ALSO: Final = ("docker-compose.yml", "deploy/example.env", "deploy/nats.conf", "deploy/nats_users.conf", "Makefile")
_NAME: Final = re.compile(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]*[A-Z0-9]\b")
#: Of workers' runs and of Modal: set for one process, and never by an operator.
_NOT_HERE: Final = ("WorkerSettings", "IngestSettings", "ModalSettings", "BucketProxySettings", "S3Settings")
#: Read by clients' libraries and examples.
_OF_CLIENTS: Final = frozenset({"SACCADE_URL", "SACCADE_API_KEY", "SACCADE_WEBHOOK_SECRET", "S3_ENDPOINT_URL"})
_MODAL_OWN: Final = frozenset(
    {
        "MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET", "MODAL_ENVIRONMENT", "MODAL_CONFIG_PATH", "MODAL_PROFILE",
        "MODAL_SERVER_URL", "MODAL_LOGLEVEL", "MODAL_WORKSPACE", "MODAL_IMAGE_BUILDER_VERSION",
    }
)  # fmt: skip


async def check_configuration(system: System, env_file: Path | None) -> list[ReportLine]:
    """Look at the settings of every service, as far as they are set here."""
    return await in_thread(_look, system, env_file)


def _look(system: System, env_file: Path | None) -> list[ReportLine]:
    classes = list(_classes())
    known = set(_known_names(classes))
    compose = compose_defaults(compose_text(system.project)) if env_file else {}
    of_file = read_file(env_file) if env_file else {}
    secrets = judge_secrets(dict(system.variables), system.public_hosts)
    told = {name for finding in secrets for name in _NAME.findall(finding.says)}
    found = [
        finding
        for finding in (_judge(settings) for settings in classes)
        if finding is not None and not told & set(_NAME.findall(finding.says.partition(":")[0]))
    ]
    found += [*secrets, *judge_names(variables(), known | set(compose))]
    if env_file:
        found += judge_passed_on(of_file, known, compose)
    found += _judge_keys_file(system)
    return found or [ok("settings", "every variable is known, and every value is valid")]


def _classes() -> Iterator[type[BaseSettings]]:
    for name in _MODULES:
        module = importlib.import_module(name)
        for found in vars(module).values():
            is_settings = isinstance(found, type) and issubclass(found, BaseSettings)
            if is_settings and found.__module__ == name:
                yield found


def _known_names(classes: list[type[BaseSettings]]) -> Iterator[str]:
    for settings in classes:
        for name, field in settings.model_fields.items():
            alias = field.validation_alias
            prefixed = f"{settings.model_config.get('env_prefix', '')}{name}".upper()
            yield from (
                (str(choice) for choice in alias.choices)
                if isinstance(alias, AliasChoices)
                else (str(alias or prefixed),)
            )
    yield from INHERITED
    yield from _OF_CLIENTS | _MODAL_OWN
    for path in _ALSO:
        if (ROOT / path).exists():
            yield from _NAME.findall((ROOT / path).read_text())


def _judge(settings: type[BaseSettings]) -> ReportLine | None:
    """Return what is wrong with the variables of a settings class; what is merely not set is the service's matter."""
    if settings.__name__ in _NOT_HERE:
        return None
    try:
        settings()
    except ValidationError as error:
        if all(fault["type"] == "missing" for fault in error.errors()):
            return None
        return fail("settings", invalid_settings(error), "Correct that variable: the service does not start with it.")
    return None


def _judge_keys_file(system: System) -> list[ReportLine]:
    file = system.variables.get("SACCADE_API_KEYS_FILE")
    if not file:
        return []
    # That it can be read and parsed, AuthSettings has said.
    return [ok("api keys file", file)] if Path(file).is_file() else []
