"""The system that is looked at: `saccade up` on a folder, compose with its environment file, or one's own servers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import SecretStr, ValidationError

from cli.doctor.settings import COMPOSE, adopt, compose_defaults, compose_text, read_file, replace_variables, variables
from cli.embedded.data_folder import Secrets, read_servers, running_url
from cli.embedded.ports import LOOPBACK
from cli.embedded.programs import BUCKET, BUCKET_PROXY, SERVICES
from cli.failure import USAGE, Failure
from cli.settings import DEFAULT_PORT, ROOT, CommandSettings
from kit.auth.api_keys import comma_separated, is_loopback
from kit.settings import NatsSettings, S3Settings, invalid_settings

Kind = Literal["embedded", "compose", "servers"]
_Settings = TypeVar("_Settings")
#: Variables whose presence says that bus and bucket are servers of one's own.
_OWN_BUS: Final = ("NATS_URL", "NATS_CREDENTIALS_FILE", "NATS_CREDENTIALS")
_OWN_BUCKET: Final = ("S3_ENDPOINT_URL", "B2_S3_ENDPOINT", "R2_ENDPOINT_URL")
#: What deploy/compose.bucket.yml leaves out: it is of the S3 server on this machine.
_LOCAL_BUCKET: Final = ("S3_ENDPOINT_URL", "S3_PUBLIC_ENDPOINT_URL", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY")
#: Health of the services by their default ports, where `saccade up` has not chosen others.
_PORTS: Final = {"gateway": 8081, "notifier": 8082, "dispatcher": 8083}
_SECRET_NAME: Final = re.compile(r"PASSWORD|SECRET|TOKEN|SEED|CREDENTIALS|APP_KEY|TICKET_KEY|API_KEY$|ACCESS_KEY")
_NO_SECRET: Final = re.compile(r"_FILE$|_PATH$|_ID$")


@dataclass(frozen=True)
class System:
    """Installation that is looked at, and how it is reached."""

    kind: Kind
    #: Address of the origin.
    url: str
    #: Whether that was named, rather than the default.
    url_is_named: bool
    variables: Mapping[str, str]
    #: Data folder of an embedded system.
    folder: Path
    #: Whether something ought to run: a system that was not started yet is looked at, too.
    running: bool
    nats: NatsSettings | None = None
    s3: S3Settings | None = None
    #: What is wrong with the settings of bus and bucket, where they cannot be read.
    faults: Mapping[str, str] = field(default_factory=dict)
    #: Addresses of the services' health.
    services: Mapping[str, str] = field(default_factory=dict)
    #: Folder of the compose file.
    project: Path = ROOT
    #: Secrets that no variable holds.
    own_secrets: tuple[str, ...] = ()
    #: Password of NATS's system account, of an embedded system.
    system_password: str = ""

    @property
    def secrets(self) -> set[str]:
        """Every secret that is known here, none of which may be printed."""
        named = {
            value
            for name, value in self.variables.items()
            if _SECRET_NAME.search(name) and not _NO_SECRET.search(name) and not Path(value).is_file()
        }
        return {secret for secret in (*named, *self.own_secrets) if secret}

    @property
    def runs_on_modal(self) -> bool:
        """Whether workers run on Modal, as far as the settings say."""
        chosen = {self.variables.get("DISPATCHER_EXECUTOR"), self.variables.get("GATEWAY_EXECUTOR")}
        mocked = self.variables.get("MOCK_MODAL", "").lower() in ("1", "true", "yes", "on")
        # deploy/compose.modal.yml sets it, and needs both of these.
        composed = self.kind == "compose" and all(
            self.variables.get(name) for name in ("MODAL_TOKEN_ID", "DISPATCHER_WORKER_BUS_URL")
        )
        return ("modal" in chosen or composed) and not mocked

    @property
    def public_url(self) -> tuple[str, str]:
        """The variable that names the address for others, and that address; both empty without one."""
        if named := self.variables.get("SACCADE_PUBLIC_URL"):
            return "SACCADE_PUBLIC_URL", named.rstrip("/")
        if self.kind == "compose" and (domain := self.variables.get("SACCADE_DOMAIN")):
            return "SACCADE_DOMAIN", f"https://{domain}"
        return "", ""

    @property
    def public_hosts(self) -> dict[str, str]:
        """Variables that name a host besides this machine, with that host."""
        hosts = {"SACCADE_ALLOWED_HOSTS": comma_separated(self.variables.get("SACCADE_ALLOWED_HOSTS", ""))}
        for name, url in (
            ("S3_PUBLIC_ENDPOINT_URL", self.variables.get("S3_PUBLIC_ENDPOINT_URL", "")),
            self.public_url,
        ):
            hosts[name] = (urlsplit(url).hostname or "",)
        return {
            name: host for name, of in hosts.items() for host in of if host and not is_loopback(host) and host != "*"
        }

    @property
    def origins(self) -> list[str]:
        """Web origins whose pages send files to the bucket, as far as the settings say."""
        named = comma_separated(self.variables.get("SACCADE_ALLOWED_ORIGINS", ""))
        own = [self.public_url[1]]
        if self.kind == "embedded" or self.url_is_named:
            own.append(self.url)
        found = [f"{parts.scheme}://{parts.netloc}" for text in (*own, *named) if (parts := urlsplit(text)).netloc]
        return list(dict.fromkeys(found))


def find_system(url: str | None, data: Path | None, env_file: Path | None) -> System:
    """Return the system that the options and the environment name.

    Raises:
        Failure: the options contradict each other, or the environment file cannot be read.
    """
    if data and env_file:
        raise Failure("--data and --env-file name two kinds of system.", code="usage", exit_code=USAGE)
    if env_file:
        return _compose(env_file, url)
    given = variables()
    folder = data or CommandSettings().data
    if data is None and _any(given, _OWN_BUS):
        return _servers(given, url)
    # With workers on Modal an embedded system has a bucket of one's own.
    if data is None and _any(given, _OWN_BUCKET) and running_url(folder) is None:
        return _servers(given, url)
    return _embedded(folder, given, url)


def _any(given: Mapping[str, str], names: Sequence[str]) -> bool:
    return any(given.get(name) for name in names)


def _embedded(folder: Path, given: Mapping[str, str], url: str | None) -> System:
    running = running_url(folder)
    named = url or given.get("SACCADE_URL")
    address = (named or running or CommandSettings.model_fields["url"].default).rstrip("/")
    system = System("embedded", address, bool(named), given, folder, running is not None)
    if running is None:
        return system
    secrets, ports = read_servers(folder)
    host = urlsplit(running).hostname or LOOPBACK
    faults: dict[str, str] = {}
    on_modal = given.get("SACCADE_PUBLIC_URL") and _any(given, _OWN_BUCKET)
    own_bucket = _embedded_s3(secrets, ports, f"[{host}]" if ":" in host else host)
    return replace(
        system,
        nats=_embedded_nats(secrets, ports["nats-server"]),
        s3=_read("bucket", S3Settings, faults) if on_modal else own_bucket,
        faults=faults,
        services={name: f"http://{LOOPBACK}:{ports[name]}" for name in SERVICES if name in ports},
        own_secrets=tuple(str(value) for name, value in vars(secrets).items() if name != "nats_user"),
        system_password=secrets.nats_system_password,
    )


def _embedded_nats(secrets: Secrets, port: int) -> NatsSettings:
    return NatsSettings(
        url=f"nats://{LOOPBACK}:{port}",
        user=secrets.nats_user,
        password=SecretStr(secrets.nats_password),
        credentials_file=None,
        credentials=None,
        inbox_prefix=None,
        replicas=1,
    )


def _embedded_s3(secrets: Secrets, ports: Mapping[str, int], host: str) -> S3Settings:
    return S3Settings(
        endpoint_url=f"http://{LOOPBACK}:{ports['rclone']}",
        public_endpoint_url=f"http://{host}:{ports.get(BUCKET_PROXY, ports['rclone'])}",
        public_url="",
        region="us-east-1",
        bucket=BUCKET,
        access_key_id=secrets.s3_access_key_id,
        secret_access_key=SecretStr(secrets.s3_secret_access_key),
        prefix="",
    )


def _compose(file: Path, url: str | None) -> System:
    try:
        values = read_file(file)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        hint = "Copy deploy/example.env to .env beside docker-compose.yml, and name that file."
        raise Failure(f"{file}: {reason}.", code="env_file_unreadable", hint=hint) from error
    project = file.resolve().parent if (file.resolve().parent / COMPOSE).exists() else ROOT
    adopt(values)
    given = compose_defaults(compose_text(project)) | variables()
    given |= _compose_bucket(given)
    keys = Path(given.get("SACCADE_API_KEYS") or "deploy/development_keys.json")
    given["SACCADE_API_KEYS_FILE"] = str(project / keys)
    replace_variables({name: given[name] for name in ("SACCADE_API_KEYS_FILE", *_LOCAL_BUCKET)})
    adopt({name: value for name, value in given.items() if value})
    named = url or given.get("SACCADE_URL")
    address = named or f"http://{LOOPBACK}:{given.get('SACCADE_PORT') or DEFAULT_PORT}"
    system = System("compose", address.rstrip("/"), bool(named), given, project, running=True, project=project)
    # The service user: the password is that of the containers, where NATS is published on this machine.
    return _with_settings(system, {"NATS_URL": given.get("NATS_URL") or f"nats://{LOOPBACK}:4222"})


def _compose_bucket(given: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the bucket: a provider's (deploy/compose.bucket.yml), or that of the compose file."""
    if _any(given, _OWN_BUCKET):
        return dict.fromkeys(_LOCAL_BUCKET, "") | {"S3_ENDPOINT_URL": given.get("S3_ENDPOINT_URL", "")}
    published = f"http://{LOOPBACK}:{given.get('S3_PORT') or 9000}"
    kept = {name: given.get(name, "") for name in _LOCAL_BUCKET}
    return kept | {"S3_ENDPOINT_URL": published, "S3_BUCKET": BUCKET}


def _servers(given: Mapping[str, str], url: str | None) -> System:
    named = url or given.get("SACCADE_URL")
    address = (named or CommandSettings.model_fields["url"].default).rstrip("/")
    services = {}
    for name, port in _PORTS.items():
        host = given.get(f"{name.upper()}_HOST") or LOOPBACK
        host = LOOPBACK if host in ("0.0.0.0", "::") else host  # noqa: S104 - where it listens, not where we do
        services[name] = f"http://{host}:{given.get(f'{name.upper()}_PORT') or port}"
    system = System("servers", address, bool(named), given, CommandSettings().data, running=True, services=services)
    return _with_settings(system, {})


def _with_settings(system: System, more: Mapping[str, str]) -> System:
    adopt(more)
    faults: dict[str, str] = {}
    nats, s3 = _read("bus", NatsSettings, faults), _read("bucket", S3Settings, faults)
    return replace(system, nats=nats, s3=s3, faults=faults)


def _read(name: str, settings: Callable[[], _Settings], faults: dict[str, str]) -> _Settings | None:
    try:
        return settings()
    except ValidationError as error:
        faults[name] = invalid_settings(error)
        return None
