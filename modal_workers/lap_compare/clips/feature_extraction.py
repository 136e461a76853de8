"""Features of both clips, described in parallel."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Lock
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from modal_workers.footage.video_reader import VideoFacts, VideoSource
from modal_workers.road_video.clip_description import FlowEstimator, extract_clip
from modal_workers.road_video.descriptors import ClipDescriptors, compute_descriptor
from modal_workers.road_video.thumbnail_cache import ThumbnailCache

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class ClipFeatures:
    """One clip after the read stage."""

    path: VideoSource
    clip: VideoFacts
    descriptors: ClipDescriptors
    #: None if the features come from a checkpoint.
    thumbnails: ThumbnailCache | None = None


def extract_pair(
    paths: tuple[VideoSource, VideoSource],
    names: tuple[str, str],
    flow_estimators: tuple[FlowEstimator | None, FlowEstimator | None],
    *,
    progress: Callable[[float], None],
    scratch: Path | None = None,
) -> tuple[tuple[ClipFeatures, ClipFeatures], tuple[str, ...]]:
    """Extract the features of both clips in parallel; ``progress`` is called from both threads, one at a time.

    With a folder ``scratch``, thumbnails are kept there for the mount correction.

    Raises:
        SaccadeError: as ``extract_clip``.
    """
    share = [0.0, 0.0]
    lock = Lock()
    ended = Event()
    caches = tuple(ThumbnailCache(scratch / f"thumbnails_{side}") if scratch else None for side in range(2))

    def read(side: int) -> tuple[ClipFeatures, tuple[str, ...]]:
        def advance(part: float) -> None:
            with lock:
                if ended.is_set():
                    raise _OtherClipError
                share[side] = part
                progress(0.5 * sum(share))

        try:
            clip, descriptors, warnings = extract_clip(
                paths[side],
                names[side],
                progress=advance,
                flow_estimator=flow_estimators[side],
                thumbnails=caches[side],
            )
        except BaseException:
            ended.set()
            raise
        finally:
            if cache := caches[side]:
                cache.close()
        return ClipFeatures(paths[side], clip, descriptors, caches[side]), warnings

    first, second = run_in_parallel(lambda: read(0), lambda: read(1))
    return (first[0], second[0]), first[1] + second[1]


def recompute_descriptors(
    features: ClipFeatures, warp: NDArray[np.float64], *, progress: Callable[[float], None]
) -> ClipDescriptors:
    """Describe a clip through a mount correction ``warp`` [3, 3], from its thumbnails or, without them, from the clip.

    Raises:
        SaccadeError: as ``extract_clip``.
    """
    original = features.descriptors
    if features.thumbnails is None:
        _, recomputed, _ = extract_clip(features.path, features.clip.filename, progress=progress, warp=warp)
        return recomputed
    cells = np.empty_like(original.cells)
    for number, grey in enumerate(features.thumbnails.at(original.time_s.tolist())):
        cells[number] = compute_descriptor(grey, warp)
        progress((number + 1) / len(original))
    return replace(original, cells=cells)


def run_in_parallel(first: Callable[[], ResultT], second: Callable[[], ResultT]) -> tuple[ResultT, ResultT]:
    """Run two passes in two threads (decoding and OpenCV release the GIL); raise the first real error."""
    with ThreadPoolExecutor(2, thread_name_prefix="clip") as pool:
        futures = (pool.submit(first), pool.submit(second))
    for future in futures:
        error = future.exception()
        if error is not None and not isinstance(error, _OtherClipError):
            raise error
    return futures[0].result(), futures[1].result()


class _OtherClipError(Exception):
    """The pass over the other clip failed, so the result of this one is not needed."""
