"""Records of the loopback, for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, field

#: The name under which functions without a GPU draw on the capacity.
CPU = "CPU"


@dataclass(frozen=True)
class AskedFunction:
    """Resources of one deployed function.

    Args:
        app: Name of the app.
        name: Name of the function.
        environment: Modal environment that it was deployed into.
        gpus: In order of preference, "A100" or "A100:2"; empty: none.
        cpu_cores: Physical cores; 0: Modal's default.
        memory_mib: Memory; 0: Modal's default.
        timeout_s: Limit of one input.
        startup_timeout_s: Limit of a container's start; 0: the same as timeout_s.
        secrets: Required keys of each secret, by the secret's name.
        volumes: Name of each volume, by its mount path.
        retries: How often Modal itself would run a failed input again.
        restrict_modal_access: Whether its containers may call Modal.
        single_use: Whether each input gets a container of its own.
        concurrency: Inputs that a container runs at once.
        max_containers: Limit of its containers; 0: none.
        warm_containers: Containers that are kept started.
        scaledown_s: How long a container without work stays; 0: Modal's default.
        image_lines: Dockerfile lines of its image, those of its base first.
        build_secrets: Required keys of each secret of its image's build, by the secret's name.
        files: Path of each file that was uploaded for it, from the folder of sources (at Modal the container's home).
    """

    app: str
    name: str
    environment: str
    gpus: tuple[str, ...]
    cpu_cores: float
    memory_mib: int
    timeout_s: int
    startup_timeout_s: int
    secrets: dict[str, tuple[str, ...]]
    volumes: dict[str, str]
    retries: int
    restrict_modal_access: bool
    single_use: bool
    concurrency: int
    max_containers: int
    warm_containers: int
    scaledown_s: int
    image_lines: tuple[str, ...]
    build_secrets: dict[str, tuple[str, ...]]
    files: tuple[str, ...]


@dataclass
class ContainerRecord:
    """Record of one container, from its grant to its end.

    Args:
        id: Its id, which the code in it reads from MODAL_TASK_ID.
        app: Name of its app.
        function: Name of its function.
        gpu: GPU that it holds; empty: none.
        calls: Calls whose inputs it was given.
        exit_code: None while it runs; 128 + the signal's number if a signal ended it.
    """

    id: str
    app: str
    function: str
    gpu: str
    calls: list[str] = field(default_factory=list)
    exit_code: int | None = None

    @property
    def ended(self) -> bool:
        """Whether it has ended, with all its processes."""
        return self.exit_code is not None


@dataclass(frozen=True)
class LogLine:
    """One line that a container wrote to its standard output or error."""

    app: str
    container: str
    text: str


class Capacity(MutableMapping[str, int | None]):
    """Number of available GPUs of each type; may be changed at any time, from any thread.

    A type that is not listed, or None, is unlimited. 0: none is available, inputs wait.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        """Start without limits; `changed` is called after each change."""
        self._limits: dict[str, int | None] = {}
        self._changed = changed

    def __getitem__(self, gpu: str) -> int | None:
        return self._limits.get(gpu)

    def __setitem__(self, gpu: str, limit: int | None) -> None:
        self._limits[gpu] = limit
        self._changed()

    def __delitem__(self, gpu: str) -> None:
        self._limits.pop(gpu, None)
        self._changed()

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._limits))

    def __len__(self) -> int:
        return len(self._limits)
