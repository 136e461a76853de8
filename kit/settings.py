"""Settings of the bus, the bucket and webhook addresses, which several processes need; each service adds its own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final, Self
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from kit.auth.api_keys import AuthSettings, comma_separated, is_loopback

_THIS_MACHINE: Final = ("127.0.0.0/8", "::1")
#: Placeholder for secrets in deploy/example.env.
PLACEHOLDER: Final = "change-me"
#: Beginning of the secrets that docker-compose.yml has by default.
DEVELOPMENT: Final = "development-only"
_ALLOWED_HOSTS, _PUBLIC_BUCKET, _PUBLIC_URL = "SACCADE_ALLOWED_HOSTS", "S3_PUBLIC_ENDPOINT_URL", "SACCADE_PUBLIC_URL"


def _chosen(secret: SecretStr) -> SecretStr:
    """Refuse the public placeholder, and on a server that others reach the public values for development."""
    if secret.get_secret_value().startswith(PLACEHOLDER):
        raise ValueError("it is still the placeholder of deploy/example.env: replace it by a long random value")
    if secret.get_secret_value().startswith(DEVELOPMENT) and (reach := public_reach()):
        raise ValueError(f"it is the public value for development, and {reach}: replace it by a long random value")
    return secret


class _Reach(BaseSettings):
    """Names under which others reach the servers."""

    allowed_hosts: str = Field(default="", validation_alias=_ALLOWED_HOSTS)
    bucket_url: str = Field(default="", validation_alias=_PUBLIC_BUCKET)
    public_url: str = Field(default="", validation_alias=_PUBLIC_URL)
    api_keys_file: str = Field(default="", validation_alias="SACCADE_API_KEYS_FILE")


def public_reach() -> str | None:
    """Return how others than the user of this machine may reach the servers, in words; None if they cannot.

    With API keys and without a list every host name is served, so a server with no other setting is reached by all.
    """
    reach = _Reach()
    hosts = comma_separated(reach.allowed_hosts)
    if reach.api_keys_file and not hosts:
        return f"without {_ALLOWED_HOSTS} every host name is served"
    named = {_ALLOWED_HOSTS: hosts}
    for variable, url in ((_PUBLIC_BUCKET, reach.bucket_url), (_PUBLIC_URL, reach.public_url)):
        named[variable] = (urlsplit(url).hostname or "localhost",)
    for variable, names in named.items():
        if any(not is_loopback(host) for host in names):
            return f"{variable} names other hosts than this machine"
    return None


#: A secret that is not public.
ChosenSecret = Annotated[SecretStr, AfterValidator(_chosen)]


class NatsSettings(BaseSettings):
    """Address and credentials of NATS."""

    model_config = SettingsConfigDict(env_prefix="NATS_", frozen=True, env_ignore_empty=True)

    #: Address of a server; of a cluster's servers separated by commas, of which the client uses one that answers.
    url: str = "nats://127.0.0.1:4222"
    #: A user of a server that checks passwords.
    user: str | None = None
    password: ChosenSecret | None = None
    #: Name of the user that may send commands; its password is no service's.
    operator_user: str = "operator"
    #: A credentials file (JWT and seed), for operator mode.
    credentials_file: str | None = None
    #: The content of such a file, for a process with credentials of its own.
    credentials: SecretStr | None = None
    #: Prefix of reply subjects; required by credentials that allow only some inboxes.
    inbox_prefix: str | None = None
    #: Replicas of each stream: 1 on a single node, 3 in a cluster.
    replicas: int = Field(default=1, ge=1, le=5)

    @property
    def urls(self) -> list[str]:
        """Addresses of the servers."""
        return [url.strip() for url in self.url.split(",") if url.strip()]

    @property
    def address(self) -> str:
        """URL for logs, without credentials."""
        return re.sub(r"(^|//|,)[^/@,]*@", r"\1", self.url)


class WebhookAddressSettings(BaseSettings):
    """Destinations that webhooks are allowed to have; what is not set follows from the mode."""

    model_config = SettingsConfigDict(env_prefix="NOTIFIER_", frozen=True)

    #: Whether webhooks go over https only; by default everywhere but in embedded mode.
    webhook_https_only: bool | None = None
    #: Networks that are not public, as CIDR, separated by commas.
    webhook_allowed_networks: Annotated[tuple[str, ...] | None, NoDecode] = None

    @field_validator("webhook_allowed_networks", mode="before")
    @classmethod
    def _separated(cls, value: object) -> object:
        return comma_separated(value) if isinstance(value, str) else value

    def https_only(self, auth: AuthSettings) -> bool:
        """Return whether webhooks go over https only: the setting, or everywhere but in embedded mode."""
        return not auth.embedded if self.webhook_https_only is None else self.webhook_https_only

    def allowed_networks(self, auth: AuthSettings) -> tuple[str, ...]:
        """Return the networks beside the public ones: the setting, or this machine in embedded mode, or none."""
        if self.webhook_allowed_networks is not None:
            return self.webhook_allowed_networks
        return _THIS_MACHINE if auth.embedded else ()


class OriginSettings(BaseSettings):
    """Connection to the origin of an embedded system, which sets it."""

    model_config = SettingsConfigDict(env_prefix="SACCADE_", frozen=True)

    #: Inherited end of a channel by which the origin passes connections (kit/http/passed_connections.py).
    connections_fd: int | None = None


def _either(name: str, b2_name: str, *others: str) -> AliasChoices:
    return AliasChoices(f"S3_{name}", f"B2_{b2_name}", *others)


class S3Settings(BaseSettings):
    """Address and credentials of the bucket; the names common for Backblaze B2 and Cloudflare R2 are accepted too."""

    #: An empty variable, which compose files create for unset ones, counts as unset.
    model_config = SettingsConfigDict(frozen=True, populate_by_name=True, env_ignore_empty=True)

    #: Address of the server.
    endpoint_url: str = Field(validation_alias=_either("ENDPOINT_URL", "S3_ENDPOINT", "R2_ENDPOINT_URL"))
    #: Address of the same server for clients, if it differs (a container's name against a published port).
    public_endpoint_url: str = Field(default="", validation_alias="S3_PUBLIC_ENDPOINT_URL")
    #: Base URL of a publicly readable bucket, ``<url>/<key>``: links to its objects are not signed.
    public_url: str = Field(default="", validation_alias=AliasChoices("S3_PUBLIC_URL", "R2_PUBLIC_URL"))
    region: str = Field(default="us-east-1", validation_alias=_either("REGION", "REGION"))
    bucket: str = Field(default="saccade", validation_alias=_either("BUCKET", "BUCKET", "R2_BUCKET_NAME"))
    access_key_id: str = Field(validation_alias=_either("ACCESS_KEY_ID", "KEY_ID", "AWS_ACCESS_KEY_ID"))
    secret_access_key: ChosenSecret = Field(
        validation_alias=_either("SECRET_ACCESS_KEY", "APP_KEY", "AWS_SECRET_ACCESS_KEY")
    )
    #: Prefix of every key, so that a bucket can be shared.
    prefix: str = Field(default="", validation_alias=_either("PREFIX", "PREFIX"))

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Normalize: B2 shows its endpoint without a scheme; a prefix has no slash at its ends."""
        endpoint = self.endpoint_url if "://" in self.endpoint_url else f"https://{self.endpoint_url}"
        object.__setattr__(self, "endpoint_url", endpoint)
        object.__setattr__(self, "public_endpoint_url", self.public_endpoint_url or endpoint)
        object.__setattr__(self, "public_url", self.public_url.rstrip("/"))
        object.__setattr__(self, "prefix", self.prefix.strip("/"))
        return self


class ArchiveSettings(BaseSettings):
    """Archive of events in the bucket (docs/archive.md); where there is a bucket, there is an archive."""

    model_config = SettingsConfigDict(env_prefix="ARCHIVE_", frozen=True, env_ignore_empty=True)

    #: Whether events are archived.
    enabled: bool = True
    #: Another bucket of the same server. Needed where everybody may read the bucket (S3_PUBLIC_URL): an archive holds
    #: every tenant's events.
    bucket: str = ""

    def s3(self, settings: S3Settings) -> S3Settings | None:
        """Return the settings of the archive's bucket; None where there is no archive."""
        if not self.enabled or (settings.public_url and self.bucket in ("", settings.bucket)):
            return None
        return settings.model_copy(update={"bucket": self.bucket or settings.bucket, "public_url": ""})


class TracingSettings(BaseSettings):
    """Export of traces, in OpenTelemetry's own variables (docs/tracing.md); off by default."""

    model_config = SettingsConfigDict(env_prefix="OTEL_", frozen=True, populate_by_name=True, env_ignore_empty=True)

    #: Base URL of a collector that speaks OTLP over HTTP.
    endpoint: str = Field(default="", validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    #: Headers of its requests, ``name=value`` separated by commas; a value is percent-encoded and may be a secret.
    headers: SecretStr = Field(default=SecretStr(""), validation_alias="OTEL_EXPORTER_OTLP_HEADERS")
    #: Share of the traces that are recorded; the same for all services, which decide by the trace id.
    ratio: float = Field(default=1.0, ge=0, le=1, validation_alias="OTEL_TRACES_SAMPLER_ARG")

    @property
    def header_values(self) -> dict[str, str]:
        """Headers by name."""
        pairs = (entry.partition("=") for entry in comma_separated(self.headers.get_secret_value()))
        return {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs if name.strip()}


class RequestLogSettings(BaseSettings):
    """Access log: a line for each request; off by default."""

    model_config = SettingsConfigDict(frozen=True, populate_by_name=True, env_ignore_empty=True)

    requests_logged: bool = Field(default=False, validation_alias="SACCADE_ACCESS_LOG")


def invalid_settings(error: ValidationError) -> str:
    """Return what is wrong with settings in one line that names each environment variable; without their values."""
    found = []
    for fault in error.errors(include_input=False, include_url=False):
        message = fault["msg"].removeprefix("Value error, ")
        field, *inside = map(str, fault["loc"] or ("",))
        variable = " ".join([_variable(error.title, field), *([f"({'.'.join(inside)})"] if inside else [])])
        found.append(f"{variable}: {message}" if variable else message)
    return "; ".join(found)


def _variable(settings: str, field: str) -> str:
    """Return the environment variable of a field of a settings class; of several names, the one that is set."""
    pending: list[type[BaseSettings]] = [BaseSettings]
    while pending:
        found = pending.pop()
        pending += found.__subclasses__()
        if found.__name__ != settings:
            continue
        for name, declared in found.model_fields.items():
            alias = declared.validation_alias
            prefixed = f"{found.model_config.get('env_prefix', '')}{name}".upper()
            choices = alias.choices if isinstance(alias, AliasChoices) else [alias or prefixed]
            names = [str(choice) for choice in choices]
            # A location has the field's name, or its first alias.
            if field in (name, names[0]):
                given = [variable for variable in names if os.environ.get(variable)]  # noqa: TID251 - only whether it is set
                return " or ".join(given[:1] or names)
    return field


def numeric_library_threads(count: int) -> dict[str, str]:
    """Return the variables that limit the threads of the numeric libraries, which read them when they are loaded.

    Waiting threads of OpenMP sleep: by default they use a processor until the next parallel region.
    """
    limited = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
    return {"OMP_WAIT_POLICY": "PASSIVE"} | dict.fromkeys(limited, str(count))


#: Variables that name files and folders of models, which a worker's job opens although it is locked down.
MODEL_PATHS: Final = ("BADMINTON_WEIGHTS_FOLDER", "BADMINTON_POSE_ONNX", "BADMINTON_SHUTTLE_ONNX")
#: Variables that a child process inherits; all others, secrets above all, are passed explicitly.
INHERITED: Final = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CUDA_VISIBLE_DEVICES",
    "XDG_CACHE_HOME",
    "WORKER_CATALOG",
    "WORKER_LOCKDOWN",
    "WORKER_CACHE_FOLDER",
    "MODAL_VOLUME_CLEANUP_HOURS",
    "ARCHIVE_ENABLED",
    "ARCHIVE_BUCKET",
    # Models of the vision stream: its worker must offer what the gateway accepts.
    "VISION_MODEL",
    "VISION_MODELS",
    "VISION_WEIGHTS_FOLDER",
    "VISION_DOWNLOAD",
    *MODEL_PATHS,
    "BADMINTON_YOLO_TRACKER",
    "BADMINTON_YOLO_IMAGE_PX",
)


def inherited_environment(names: Iterable[str] = INHERITED) -> dict[str, str]:
    """Return the environment variables of this process that a child process inherits."""
    return {name: os.environ[name] for name in names if name in os.environ}  # noqa: TID251


def model_paths() -> tuple[Path, ...]:
    """Return the files and folders of models that the environment names."""
    return tuple(Path(os.environ[name]) for name in MODEL_PATHS if os.environ.get(name))  # noqa: TID251


def as_environment(nats: NatsSettings | None, s3: S3Settings) -> dict[str, str]:
    """Return the settings as environment variables for a child process; contains secrets."""
    variables = (
        {}
        if nats is None
        else {
            "NATS_URL": nats.url,
            "NATS_USER": nats.user,
            "NATS_PASSWORD": nats.password.get_secret_value() if nats.password else None,
            "NATS_CREDENTIALS_FILE": nats.credentials_file,
            "NATS_CREDENTIALS": nats.credentials.get_secret_value() if nats.credentials else None,
            "NATS_INBOX_PREFIX": nats.inbox_prefix,
            "NATS_REPLICAS": str(nats.replicas) if nats.replicas > 1 else None,
        }
    )
    variables |= {
        "S3_ENDPOINT_URL": s3.endpoint_url,
        "S3_PUBLIC_ENDPOINT_URL": s3.public_endpoint_url,
        "S3_PUBLIC_URL": s3.public_url,
        "S3_REGION": s3.region,
        "S3_BUCKET": s3.bucket,
        "S3_ACCESS_KEY_ID": s3.access_key_id,
        "S3_SECRET_ACCESS_KEY": s3.secret_access_key.get_secret_value(),
        "S3_PREFIX": s3.prefix,
    }
    return {name: value for name, value in variables.items() if value}
