"""Context of pipeline stages that run in this process: artifacts and checkpoints in a folder instead of a bucket."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from contracts.manifest import Artifact


@dataclass
class FolderContext:
    """A ``Context`` that stores artifacts and checkpoints in ``home``; each stage has its own scratch folder."""

    home: Path
    inputs: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    shard: tuple[int, int] = (0, 1)
    name: str = "stage"
    device: str = "cpu"
    job_id: str = "job_of-a-test"
    told: list[tuple[float, str]] = field(default_factory=list)
    titles: dict[str, str] = field(default_factory=dict)
    stop_when: Callable[[float], bool] = lambda _fraction: False

    def __post_init__(self) -> None:
        self.scratch = self.home / "scratch" / f"{self.name}-{self.shard[0]}"
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        self.saved = self.home / "saved"
        self.kept = self.home / "kept"
        self.kept.mkdir(exist_ok=True)

    def input(self, name: str, index: int = 0) -> Path:
        return self.inputs[name][index]

    def input_count(self, name: str) -> int:
        return len(self.inputs.get(name, ()))

    def input_name(self, name: str, index: int = 0) -> str:
        return self.inputs[name][index].name

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:  # noqa: ARG002
        yield

    def progress(
        self,
        fraction: float,
        message: str = "",
        *,
        frame: int | None = None,  # noqa: ARG002
        frame_count: int | None = None,  # noqa: ARG002
    ) -> None:
        self.told.append((fraction, message))

    def check(self) -> None:
        return

    def save(
        self,
        path: Path,
        name: str,
        media_type: str,
        *,
        title: str = "",
        units: Mapping[str, str] | None = None,  # noqa: ARG002
    ) -> Artifact:
        target = self.saved / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        self.titles[name] = title
        return Artifact(name=name, key=name, bytes=target.stat().st_size, sha256="0" * 64, media_type=media_type)

    def artifact(self, name: str) -> Path | None:
        path = self.saved / name
        return path if path.exists() else None

    def checkpoint(self, name: str) -> Path | None:
        path = self.kept / name
        return path if path.exists() else None

    def keep(self, path: Path, name: str) -> None:
        assert "/" not in name
        shutil.copyfile(path, self.kept / name)


class Killed(BaseException):
    """Simulated kill of the process; no stage catches it."""


class CrashingContext(FolderContext):
    """Context that raises ``Killed`` after ``fuse`` steps: in ``progress``, before or after a checkpoint is saved."""

    fuse = 10**9

    def progress(
        self,
        fraction: float,
        message: str = "",
        *,
        frame: int | None = None,
        frame_count: int | None = None,
    ) -> None:
        self._burn()
        super().progress(fraction, message, frame=frame, frame_count=frame_count)

    def keep(self, path: Path, name: str) -> None:
        self._burn()
        super().keep(path, name)
        self._burn()

    def _burn(self) -> None:
        self.fuse -= 1
        if self.fuse <= 0:
            raise Killed
