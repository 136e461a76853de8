"""Deployed function, its options and its queue: one pool of containers each."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modal_proto import api_pb2

if TYPE_CHECKING:
    from tests.modal_loopback.container import Container

_OPTIONS = (
    "timeout_secs",
    "concurrency_limit",
    "task_idle_timeout_secs",
    "max_concurrent_inputs",
    "target_concurrent_inputs",
)


@dataclass
class Call:
    """One call of a function, with its one input and its result once there is one."""

    id: str
    input_id: str
    function: Function
    invocation: int
    item: api_pb2.FunctionInput
    container: Container | None = None
    cancelled: bool = False
    attempt: int = 0
    started_s: float = 0.0
    output: api_pb2.FunctionGetOutputsItem | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(eq=False)
class Function:
    """A deployed function, or one with options, which has containers of its own.

    Args:
        ranked: One definition for each GPU that it may run on, best first; empty for one with options.
        base: The function that the options are put on.
    """

    id: str
    app_id: str
    ranked: list[api_pb2.Function]
    base: Function | None = None
    options: api_pb2.FunctionOptions | None = None
    queue: deque[Call] = field(default_factory=deque)
    containers: set[Container] = field(default_factory=set)

    def definitions(self) -> list[api_pb2.Function]:
        """Return the definition for each GPU, best first; options that name a GPU leave one."""
        if self.base is None or self.options is None:
            return self.ranked
        below = self.base.definitions()
        chosen = below[:1] if self.options.resources.gpu_config.gpu_type else below
        return [derived(definition, self.options) for definition in chosen]

    def metadata(self) -> api_pb2.FunctionHandleMetadata:
        """Describe the function to the client; no input plane: everything goes by the control plane."""
        first = self.definitions()[0]
        return api_pb2.FunctionHandleMetadata(
            app_id=self.app_id,
            function_name=first.function_name,
            function_type=first.function_type,
            definition_id=f"de-{self.id}",
            function_schema=first.function_schema,
            supported_input_formats=first.supported_input_formats,
            supported_output_formats=first.supported_output_formats,
        )

    def data(self) -> api_pb2.FunctionData:
        """Describe the function with its ranked definitions, which the client wants at least one of."""
        definitions = self.definitions()
        first = definitions[0]
        return api_pb2.FunctionData(
            module_name=first.module_name,
            function_name=first.function_name,
            function_type=first.function_type,
            timeout_secs=first.timeout_secs,
            startup_timeout_secs=first.startup_timeout_secs,
            untrusted=first.untrusted,
            ranked_functions=[
                api_pb2.FunctionData.RankedFunction(rank=rank, function=definition)
                for rank, definition in enumerate(definitions)
            ],
        )


def derived(definition: api_pb2.Function, options: api_pb2.FunctionOptions | None = None) -> api_pb2.Function:
    """Copy a definition and put options on it: resources are merged, secrets and volumes replaced."""
    made = api_pb2.Function()
    made.CopyFrom(definition)
    if options is None:
        return made
    made.resources.MergeFrom(options.resources)
    for name in _OPTIONS:
        if options.HasField(name):
            setattr(made, name, getattr(options, name))
    if options.replace_secret_ids:
        made.secret_ids[:] = options.secret_ids
    if options.replace_volume_mounts:
        del made.volume_mounts[:]
        made.volume_mounts.extend(options.volume_mounts)
    return made


def beyond(definition: api_pb2.Function) -> list[str]:
    """List the features of a definition that the loopback does not implement."""
    asked = {
        "class": definition.is_class,
        "generator": definition.function_type == api_pb2.Function.FUNCTION_TYPE_GENERATOR,
        "web function": definition.webhook_config.type or definition.is_server,
        "retry by Modal": definition.retry_policy.retries,
        "batching": definition.batch_max_size,
        "schedule": definition.HasField("schedule"),
        "cluster": definition._experimental_group_size,
        "memory snapshot": definition.is_checkpointing_function,
    }
    return [what for what, needed in asked.items() if needed]
