"""Deployed objects: apps, functions, images, mounts and secrets, by id."""

from __future__ import annotations

import hashlib
import itertools
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from tests.modal_loopback.blobs import BlobStore
from tests.modal_loopback.functions import Function, beyond, derived
from tests.modal_loopback.records import AskedFunction
from tests.modal_loopback.uploaded_files import UploadedFiles
from tests.modal_loopback.volumes import Volumes

_BUILDER = "2025.06"
#: Where the client puts sources in a container.
_SOURCES = "/root/"


@dataclass
class App:
    """One app in one environment."""

    id: str
    name: str
    environment: str
    functions: dict[str, str] = field(default_factory=dict)
    history: list[api_pb2.AppDeploymentHistory] = field(default_factory=list)


class Deployment:
    """Procedures of a deploy and a look-up, and the objects that they create."""

    def __init__(
        self,
        blobs: BlobStore,
        volumes: Volumes,
        files: UploadedFiles,
        missing: Callable[[str], None],
        replaced: Callable[[Function], None],
    ) -> None:
        """Start with nothing deployed.

        Args:
            blobs: Where large files were put.
            volumes: Those that functions may mount.
            files: Where the uploaded sources are stored.
            missing: Called with what is asked for and not there; raises.
            replaced: Called with a function that was deployed again.
        """
        self.apps: dict[str, App] = {}
        self.functions: dict[str, Function] = {}
        self.asked: list[AskedFunction] = []
        self.secret_values: dict[str, dict[str, str]] = {}
        self._deployed: dict[tuple[str, str], str] = {}
        self._pools: dict[bytes, str] = {}
        self._images: dict[str, api_pb2.Image] = {}
        self._mounts: dict[str, list[api_pb2.MountFile]] = {}
        self._files = files
        self._secrets: dict[str, tuple[str, tuple[str, ...], dict[str, str]]] = {}
        self.volumes = volumes
        self._blobs, self._missing, self._replaced = blobs, missing, replaced
        self._numbers = itertools.count(1)

    # For containers.

    def lay_out(self, definition: api_pb2.Function, folder: Path) -> None:
        """Put exactly the uploaded files of a function below a folder."""
        self._files.lay_out(self._placed(definition, folder))

    def keep_bytecode(self, definition: api_pb2.Function, folder: Path) -> None:
        """Keep what was compiled of a function's files below a folder, for its next containers."""
        self._files.keep_bytecode(self._placed(definition, folder))

    def environment_of(self, definition: api_pb2.Function) -> dict[str, str]:
        """Collect the variables of a function's image and of its secrets, as the secrets are now."""
        variables: dict[str, str] = {}
        for line in self._image_lines(definition.image_id):
            if line.startswith("ENV "):
                variables.update(word.split("=", 1) for word in shlex.split(line[4:]) if "=" in word)
        for secret in definition.secret_ids:
            name, _, given = self._secrets[secret]
            variables.update(given or self.secret_values.get(name, {}))
        return variables

    def layout(self, app_id: str) -> api_pb2.AppLayout:
        """Describe an app's objects, as its containers and its next deploy need them."""
        app = self.apps[app_id]
        functions = [self.functions[function] for function in app.functions.values()]
        objects = [api_pb2.Object(object_id=each.id, function_handle_metadata=each.metadata()) for each in functions]
        needed = {needs.object_id for each in functions for needs in each.ranked[0].object_dependencies}
        for object_id in sorted(needed - set(app.functions.values())):
            if volume := self.volumes.metadata(object_id):
                kind = {"volume_metadata": volume}
            else:
                kind = {"mount_handle_metadata": api_pb2.MountHandleMetadata()} if object_id in self._mounts else {}
            objects.append(api_pb2.Object(object_id=object_id, **kind))
        return api_pb2.AppLayout(objects=objects, function_ids=app.functions)

    def _placed(self, definition: api_pb2.Function, folder: Path) -> list[tuple[Path, str]]:
        return [(folder / file.filename.lstrip("/"), file.sha256_hex) for file in self._files_of(definition)]

    def _files_of(self, definition: api_pb2.Function) -> list[api_pb2.MountFile]:
        return [file for mount in definition.mount_ids for file in self._mounts[mount]]

    def _image_lines(self, image_id: str) -> list[str]:
        image = self._images.get(image_id)
        if image is None:
            return []
        below = [line for base in image.base_images for line in self._image_lines(base.image_id)]
        return below + list(image.dockerfile_commands)

    def _build_secrets(self, image_id: str) -> list[str]:
        image = self._images.get(image_id)
        if image is None:
            return []
        below = [secret for base in image.base_images for secret in self._build_secrets(base.image_id)]
        return below + list(image.secret_ids)

    def _volume_name(self, volume_id: str) -> str:
        made = self.volumes.metadata(volume_id)
        assert made
        return made.name

    def _new(self, kind: str) -> str:
        return f"{kind}-{next(self._numbers):06d}"

    # Environment and app.

    async def environment_get_or_create(
        self, request: api_pb2.EnvironmentGetOrCreateRequest
    ) -> api_pb2.EnvironmentGetOrCreateResponse:
        """Return the environment; every name exists."""
        settings = api_pb2.EnvironmentSettings(image_builder_version=_BUILDER)
        name = request.deployment_name or "main"
        return api_pb2.EnvironmentGetOrCreateResponse(
            environment_id=f"en-{name}", metadata=api_pb2.EnvironmentMetadata(name=name, settings=settings)
        )

    async def app_get_by_deployment_name(
        self, request: api_pb2.AppGetByDeploymentNameRequest
    ) -> api_pb2.AppGetByDeploymentNameResponse:
        """Find an app that is deployed already."""
        found = self._deployed.get((request.environment_name, request.name), "")
        return api_pb2.AppGetByDeploymentNameResponse(app_id=found)

    async def app_create(self, request: api_pb2.AppCreateRequest) -> api_pb2.AppCreateResponse:
        """Create an app."""
        app = App(self._new("ap"), request.description, request.environment_name)
        self.apps[app.id] = app
        return api_pb2.AppCreateResponse(app_id=app.id, app_page_url="http://127.0.0.1/app")

    async def app_get_layout(self, request: api_pb2.AppGetLayoutRequest) -> api_pb2.AppGetLayoutResponse:
        """Describe an app that is deployed again."""
        return api_pb2.AppGetLayoutResponse(app_layout=self.layout(request.app_id))

    async def app_heartbeat(self, _: api_pb2.AppHeartbeatRequest) -> Empty:
        """Accept the heartbeat of an app that is being deployed."""
        return Empty()

    async def app_client_disconnect(self, _: api_pb2.AppClientDisconnectRequest) -> Empty:
        """Accept that the client gives up a deploy; its objects stay without a name."""
        return Empty()

    async def app_publish(self, request: api_pb2.AppPublishRequest) -> api_pb2.AppPublishResponse:
        """Publish a deployed app's functions by name, and record their resources."""
        app = self.apps[request.app_id]
        app.functions = dict(request.function_ids)
        app.name = request.name or app.name
        if request.name:
            self._deployed[app.environment, request.name] = app.id
        history = api_pb2.AppDeploymentHistory(
            app_id=app.id, version=len(app.history) + 1, deployed_at=time.time(), tag=request.deployment_tag,
            deployed_by="loopback",
        )  # fmt: skip
        app.history.append(history)
        for name, function_id in app.functions.items():
            self.asked.append(self._asked(app, name, self.functions[function_id]))
        return api_pb2.AppPublishResponse(url="http://127.0.0.1/app", deployed_at=time.time())

    async def app_deployment_history(
        self, request: api_pb2.AppDeploymentHistoryRequest
    ) -> api_pb2.AppDeploymentHistoryResponse:
        """Return the deployments of an app, the newest last."""
        return api_pb2.AppDeploymentHistoryResponse(app_deployment_histories=self.apps[request.app_id].history)

    async def object_suggest(self, _: api_pb2.ObjectSuggestRequest) -> api_pb2.ObjectSuggestResponse:
        """Suggest no other name for one that is not there."""
        return api_pb2.ObjectSuggestResponse()

    def _asked(self, app: App, name: str, function: Function) -> AskedFunction:
        first = function.ranked[0]
        gpus = [rung.resources.gpu_config for rung in function.ranked if rung.resources.gpu_config.gpu_type]
        return AskedFunction(
            app=app.name,
            name=name,
            environment=app.environment,
            gpus=tuple(gpu.gpu_type if gpu.count <= 1 else f"{gpu.gpu_type}:{gpu.count}" for gpu in gpus),
            cpu_cores=first.resources.milli_cpu / 1000,
            memory_mib=first.resources.memory_mb,
            timeout_s=first.timeout_secs,
            startup_timeout_s=first.startup_timeout_secs,
            secrets={self._secrets[secret][0]: self._secrets[secret][1] for secret in first.secret_ids},
            volumes={mount.mount_path: self._volume_name(mount.volume_id) for mount in first.volume_mounts},
            retries=first.retry_policy.retries,
            restrict_modal_access=first.untrusted,
            single_use=first.single_use_containers,
            concurrency=max(1, first.max_concurrent_inputs),
            max_containers=first.concurrency_limit or first.autoscaler_settings.max_containers,
            warm_containers=first.autoscaler_settings.min_containers,
            scaledown_s=first.task_idle_timeout_secs or first.autoscaler_settings.scaledown_window,
            image_lines=tuple(self._image_lines(first.image_id)),
            build_secrets=dict(self._secrets[secret][:2] for secret in self._build_secrets(first.image_id)),
            files=tuple(sorted(file.filename.removeprefix(_SOURCES) for file in self._files_of(first))),
        )

    # Files, images, secrets.

    async def mount_batched_check_existence(
        self, request: api_pb2.MountBatchedCheckExistenceRequest
    ) -> api_pb2.MountBatchedCheckExistenceResponse:
        """Return which files are missing."""
        lacking = [sha for sha in request.sha256_hex_hashes if sha not in self._files]
        return api_pb2.MountBatchedCheckExistenceResponse(missing_sha256_hex_hashes=lacking)

    async def mount_put_file(self, request: api_pb2.MountPutFileRequest) -> api_pb2.MountPutFileResponse:
        """Store a file; an empty one arrives without bytes."""
        if request.WhichOneof("data_oneof"):
            stored = self._blobs.blobs[request.data_blob_id] if request.data_blob_id else request.data
            self._files.put(request.sha256_hex, stored)
        return api_pb2.MountPutFileResponse(exists=request.sha256_hex in self._files)

    async def mount_get_or_create(self, request: api_pb2.MountGetOrCreateRequest) -> api_pb2.MountGetOrCreateResponse:
        """Create a mount of files; a named one is Modal's own client, which the container's interpreter provides."""
        mount = self._new("mo")
        self._mounts[mount] = list(request.files)
        checksum = hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()
        return api_pb2.MountGetOrCreateResponse(
            mount_id=mount, handle_metadata=api_pb2.MountHandleMetadata(content_checksum_sha256_hex=checksum)
        )

    async def image_get_or_create(self, request: api_pb2.ImageGetOrCreateRequest) -> api_pb2.ImageGetOrCreateResponse:
        """Store an image's definition; none is built, containers use this interpreter's packages."""
        digest = hashlib.sha256(request.image.SerializeToString(deterministic=True)).hexdigest()[:16]
        self._images[f"im-{digest}"] = request.image
        return api_pb2.ImageGetOrCreateResponse(
            image_id=f"im-{digest}",
            result=api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS),
            metadata=api_pb2.ImageMetadata(image_builder_version=_BUILDER, python_version_info=sys.version),
        )

    async def secret_get_or_create(
        self, request: api_pb2.SecretGetOrCreateRequest
    ) -> api_pb2.SecretGetOrCreateResponse:
        """Find a secret by name and check its keys, or store one that the client created from a mapping."""
        given = dict(request.env_dict)
        if given and request.deployment_name:
            self.secret_values[request.deployment_name], given = given, {}
        if not given:
            values = self.secret_values.get(request.deployment_name)
            if values is None:
                raise GRPCError(Status.NOT_FOUND, f"Secret '{request.deployment_name}' not found")
            lacking = sorted(set(request.required_keys) - set(values))
            if lacking:
                raise GRPCError(Status.NOT_FOUND, f"Secret '{request.deployment_name}' lacks {', '.join(lacking)}")
        secret = self._new("st")
        self._secrets[secret] = (request.deployment_name, tuple(request.required_keys), given)
        return api_pb2.SecretGetOrCreateResponse(secret_id=secret)

    # Functions.

    async def function_precreate(self, request: api_pb2.FunctionPrecreateRequest) -> api_pb2.FunctionPrecreateResponse:
        """Return a function's id before it exists."""
        function_id = request.existing_function_id or self._new("fu")
        if function_id not in self.functions:
            named = api_pb2.Function(
                function_name=request.function_name,
                function_type=request.function_type,
                function_schema=request.function_schema,
                supported_input_formats=request.supported_input_formats,
                supported_output_formats=request.supported_output_formats,
            )
            self.functions[function_id] = Function(function_id, request.app_id, [named])
        return api_pb2.FunctionPrecreateResponse(
            function_id=function_id, handle_metadata=self.functions[function_id].metadata()
        )

    async def function_create(self, request: api_pb2.FunctionCreateRequest) -> api_pb2.FunctionCreateResponse:
        """Store a function's definition, one for each GPU of its list."""
        by_rank = sorted(request.function_data.ranked_functions, key=lambda each: each.rank)
        ranked = [derived(each.function) for each in by_rank] or [derived(request.function)]
        for what in beyond(ranked[0]):
            self._missing(what)
        function = self.functions.get(request.existing_function_id)
        if function is None:
            function = Function(request.existing_function_id or self._new("fu"), request.app_id, ranked)
            self.functions[function.id] = function
        else:
            function.ranked = ranked
            self._replaced(function)
        return api_pb2.FunctionCreateResponse(
            function_id=function.id, function_data=function.data(), handle_metadata=function.metadata()
        )

    async def function_get(self, request: api_pb2.FunctionGetRequest) -> api_pb2.FunctionGetResponse:
        """Find a function by the names of its app and its own."""
        app = self.apps.get(self._deployed.get((request.environment_name, request.app_name), ""))
        if app is None or request.object_tag not in app.functions:
            raise GRPCError(Status.NOT_FOUND, f"no function {request.app_name}/{request.object_tag}")
        function = self.functions[app.functions[request.object_tag]]
        return api_pb2.FunctionGetResponse(
            function_id=function.id, function=function.data(), handle_metadata=function.metadata()
        )

    async def function_bind_params(
        self, request: api_pb2.FunctionBindParamsRequest
    ) -> api_pb2.FunctionBindParamsResponse:
        """Return the pool of a function with options; equal options share a pool."""
        key = request.function_id.encode() + request.function_options.SerializeToString(deterministic=True)
        if key not in self._pools:
            base = self.functions[request.function_id]
            pool = Function(self._new("fu"), base.app_id, [], base=base, options=request.function_options)
            self.functions[pool.id] = pool
            self._pools[key] = pool.id
        pool = self.functions[self._pools[key]]
        return api_pb2.FunctionBindParamsResponse(bound_function_id=pool.id, handle_metadata=pool.metadata())
