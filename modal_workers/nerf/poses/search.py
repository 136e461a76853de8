"""Pose search: runs the attempts of the matching schedule until a model passes the quality checks; resumable."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.poses import pair_selection as pairs
from modal_workers.nerf.poses.colmap.database import MatchCounts, read_descriptors, read_match_counts
from modal_workers.nerf.poses.colmap.model_files import read_model
from modal_workers.nerf.poses.colmap.pycolmap_runner import PycolmapRunner, StepTimeout
from modal_workers.nerf.poses.exposure_levels import exposures_differ, write_levelled
from modal_workers.nerf.poses.image_set import ImageSet
from modal_workers.nerf.poses.matching_schedule import MatchingSettings, matching_schedule
from modal_workers.nerf.poses.quality_checks import (
    MIN_PHOTOS,
    CheckedModel,
    background_is_static,
    check_matches,
    check_model,
    failure_reason,
    has_separate_models,
)
from modal_workers.nerf.poses.spec import WORKLOAD, PosesAttempt
from modal_workers.runtime.context import Context

STATE: Final = "poses_search.json"
#: For all attempts together; the stage's own limit is larger and leaves time for the export.
BUDGET_S: Final = 5400.0
#: A match that moves less than this share of the long side, or less than a pixel, does not move.
_STILL: Final = 0.001
#: Next attempt, when there is none.
_NO_MORE: Final = 1000
#: Part of the stage's progress in which a step of the first attempt runs.
_PARTS: Final = {"import": (0.0, 0.0), "features": (0.0, 0.3), "match": (0.3, 0.65), "map": (0.65, 1.0)}
_MESSAGES: Final = {
    "features": "features of {} of {} photos",
    "match": "matched {} of {} blocks of pairs",
    "map": "{} of {} photos registered",
}


@dataclass(frozen=True)
class SelectedModel:
    """The accepted model."""

    checked: CheckedModel
    folder: Path
    models: int
    attempts: tuple[PosesAttempt, ...]
    durations_s: dict[str, float]


class PoseSearch:
    """The pose search of one stage."""

    def __init__(self, images: ImageSet, params: NerfParams, context: Context, *, budget_s: float = BUDGET_S) -> None:
        """Use the scratch folder of the context."""
        self._images = images
        self._params = params
        self._context = context
        self._folder = context.scratch / "search"
        self._folder.mkdir()
        self._database = self._folder / "features.db"
        self.runner = PycolmapRunner(self._folder, context.check, cores=WORKLOAD.compute.cpu_cores)
        self._files = [photo.file for photo in images.photos]
        self._end_s = time.monotonic() + budget_s
        self._attempts: list[PosesAttempt] = []
        self._durations_s: dict[str, float] = {}
        #: Photos of each model of the best attempt so far, none counted twice, largest first.
        self._groups: list[int] = []
        #: Attempt whose database was checkpointed.
        self._checkpointed = 0
        #: Next attempt, and whether only masked attempts are useful.
        self._next = 0
        self._static_background = False
        self._matched: MatchCounts | None = None

    def run(self) -> SelectedModel:
        """Find a model.

        Raises:
            SaccadeError: POSES_NOT_FOUND, POSES_SPLIT, with the reason; TIMED_OUT; OUT_OF_MEMORY, WORKER_BROKEN.
            Stopped: the job was asked to stop.
        """
        names = [photo.original_name for photo in self._images.photos]
        if len(names) < MIN_PHOTOS:
            raise failure_reason(names, (), None)
        schedule = matching_schedule(
            len(names),
            ordered=self._images.ordered,
            requested=self._params.matcher,
            masks=self._images.all_masked,
        )
        matched_with = self._resume(schedule)
        for number, settings in enumerate(schedule):
            if number < self._next or (self._static_background and not settings.masked):
                continue
            try:
                found = self._attempt(number, settings, matched_with)
            except StepTimeout:
                if self._matched is None:
                    raise SaccadeError(
                        ErrorCode.TIMED_OUT,
                        f"Features and matches of {len(names)} photos took too long.",
                        hint="Send fewer photos: 60 to 150 show an object from all sides.",
                    ) from None
                break
            if found is not None:
                return found
            matched_with = settings
        raise failure_reason(names, self._groups, self._matched, self._mapped_problem())

    def _mapped_problem(self) -> str:
        return next((attempt.problem for attempt in reversed(self._attempts) if attempt.photos_registered), "")

    def _resume(self, schedule: list[MatchingSettings]) -> MatchingSettings | None:
        """Restore the state of a lost run; return the settings of the database that it kept."""
        path = self._context.checkpoint(STATE)
        if path is None:
            return None
        state = json.loads(path.read_text())
        database = self._context.checkpoint(str(state["database"]))
        if database is None:
            return None
        shutil.copyfile(database, self._database)
        self._attempts = [PosesAttempt.model_validate(attempt) for attempt in state["attempts"]]
        self._groups, self._checkpointed = list(state["groups"]), int(state["rung"])
        self._next, self._static_background = int(state["next"]), bool(state["still"])
        self._matched = read_match_counts(self._database, self._files)
        return schedule[self._checkpointed]

    def _attempt(
        self, number: int, settings: MatchingSettings, matched_with: MatchingSettings | None
    ) -> SelectedModel | None:
        began_s = time.monotonic()
        if matched_with is None or matched_with.features_key != settings.features_key:
            self._find_features(number, settings)
            matched_with = None
        if matched_with is None or matched_with.matcher != settings.matcher:
            self._match(number, settings)
            self._keep(number)
        self._matched = read_match_counts(self._database, self._files)
        problem = check_matches(self._matched)
        models = [] if problem else self._map(number, settings)
        checked = [(check_model(read_model(folder), self._files, self._matched), folder) for folder in models]
        checked.sort(key=lambda result: -len(result[0].kept))
        if not problem:
            problem = checked[0][0].problem if checked else "no initial pair of photos was found"
        registered = len(checked[0][0].kept) if checked else 0
        self._attempts.append(
            PosesAttempt(
                matcher=settings.matcher,
                long_side_px=settings.long_side_px,
                features=settings.features,
                pairs=int((self._matched.candidates > 0).sum() // 2),
                photos_registered=registered,
                problem=problem,
                duration_s=round(time.monotonic() - began_s, 3),
            )
        )
        if checked and not problem:
            best, folder = checked[0]
            return SelectedModel(best, folder, len(models), tuple(self._attempts), dict(self._durations_s))
        if registered > max(self._groups, default=0):
            self._groups = _groups([model for model, _ in checked])
        self._static_background = self._static_background or (
            not settings.masked and background_is_static(self._matched)
        )
        joined = settings.matcher == "exhaustive" and has_separate_models(self._groups, len(self._files))
        self._next = _NO_MORE if joined else number + 1
        self._keep_state()
        return None

    def _find_features(self, number: int, settings: MatchingSettings) -> None:
        request = {
            "images": str(self._feature_photos()),
            "masks": str(self._images.images.with_name("masks")) if settings.masked else "",
            "cameras": self._images.cameras(),
            "long_side_px": settings.long_side_px,
            "features": settings.features,
            "peak_threshold": settings.peak_threshold,
        }
        self._step("features", number, request, self._delete_database)

    def _feature_photos(self) -> Path:
        """Return the folder of the photos that features are found in: levelled copies where exposures differ."""
        levelled = self._folder / "levelled"
        photos = [self._images.images / file for file in self._files]
        if not levelled.exists():
            if not exposures_differ(photos):
                return self._images.images
            write_levelled(photos, levelled, self._context.check)
        return levelled

    def _match(self, number: int, settings: MatchingSettings) -> None:
        photos, long_side_px = self._images.photos, max(max(p.width_px, p.height_px) for p in self._images.photos)
        request = {
            "blocks": [
                [(self._files[first], self._files[second]) for first, second in block]
                for block in pairs.blocks(self._pairs(settings, len(photos)))
            ],
            "pairs": str(self._folder / "pairs.txt"),
            "seed": self._params.seed,
            "stationary_px": max(1.0, _STILL * long_side_px),
        }
        before = self._folder / "before.db"
        shutil.copyfile(self._database, before)

        def clean_up() -> None:
            self._delete_database()
            shutil.copyfile(before, self._database)

        self._step("match", number, request, clean_up)
        before.unlink()

    def _pairs(self, settings: MatchingSettings, photos: int) -> list[pairs.IndexPair]:
        if not settings.similar:
            return pairs.all_pairs(photos)
        descriptors = read_descriptors(self._database, self._files)
        return pairs.following_pairs(photos, settings.following) + pairs.similar_pairs(
            descriptors, settings.similar, self._params.seed
        )

    def _map(self, number: int, settings: MatchingSettings) -> list[Path]:
        models = self._folder / "models"
        request = {
            "images": str(self._images.images),
            "models": str(models),
            "names": self._files,
            "seed": self._params.seed,
            "init_min_tri_angle_deg": settings.init_min_tri_angle_deg,
            "limit_s": self._remaining_s(),
        }

        def clean_up() -> None:
            shutil.rmtree(models, ignore_errors=True)
            models.mkdir()

        self._step("map", number, request, clean_up)
        return sorted(path.parent for path in models.glob("*/images.bin"))

    def _step(self, step: str, number: int, request: dict[str, Any], clean_up: Any) -> None:
        # A later attempt gets a smaller part of the remaining progress, which never goes back.
        low, high = 0.9 * (1 - 0.3**number), 0.9 * (1 - 0.3 ** (number + 1))

        def on_progress(part: str, done: int, total: int) -> None:
            if part not in _MESSAGES:
                return
            first, last = _PARTS[part]
            share = first + (last - first) * done / max(1, total)
            message = _MESSAGES[part].format(done, total) + (f" (attempt {number + 1})" if number else "")
            self._context.progress(low + (high - low) * share, message)

        began_s = time.monotonic()
        request = {**request, "database": str(self._database)}
        # Mapping stops by itself at its time limit and keeps its models.
        limit_s = self._remaining_s() + (60.0 if step == "map" else 0.0)
        try:
            self.runner.run(step, request, on_progress, limit_s=limit_s, clean_up=clean_up)
        finally:
            spent_s = self._durations_s.get(step, 0.0) + time.monotonic() - began_s
            self._durations_s[step] = round(spent_s, 3)

    def _remaining_s(self) -> float:
        remaining_s = self._end_s - time.monotonic()
        if remaining_s <= 0:
            raise StepTimeout
        return remaining_s

    def _delete_database(self) -> None:
        for suffix in ("", "-wal", "-shm", "-journal"):
            self._database.with_name(self._database.name + suffix).unlink(missing_ok=True)

    def _keep(self, number: int) -> None:
        """Checkpoint features and matches, the database before the state that refers to it."""
        self._context.keep(self._database, f"poses_features_{number}.db")
        self._checkpointed = self._next = number
        self._keep_state()

    def _keep_state(self) -> None:
        state = {
            "rung": self._checkpointed,
            "next": self._next,
            "still": self._static_background,
            "groups": self._groups,
            "database": f"poses_features_{self._checkpointed}.db",
            "attempts": [attempt.model_dump() for attempt in self._attempts],
        }
        path = self._folder / STATE
        path.write_text(json.dumps(state))
        self._context.keep(path, STATE)


def _groups(checked: list[CheckedModel]) -> list[int]:
    """Count the photos of each model that no larger model has."""
    seen, sizes = set[str](), []
    for model in checked:
        sizes.append(len(set(model.names) - seen))
        seen |= set(model.names)
    return sizes
