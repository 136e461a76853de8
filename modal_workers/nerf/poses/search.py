"""Climbs the ladder until a model passes the gates: features, matches, mapping; goes on where a lost run was."""

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
from modal_workers.nerf.poses.image_set import ImageSet
from modal_workers.nerf.poses.matching_schedule import MatchingSettings, matching_schedule
from modal_workers.nerf.poses.quality_checks import (
    LEAST_PHOTOS,
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
#: For all tries together; the stage's own limit is larger and leaves time for what comes after.
BUDGET_S: Final = 5400.0
#: Matches that move less than this share of the long side from photo to photo, or less than a pixel, stand still.
_STILL: Final = 0.001
#: As the next try: there is none.
_NO_MORE: Final = 1000
#: Where in the stage's progress a step of the first try begins and ends.
_PARTS: Final = {"import": (0.0, 0.0), "features": (0.0, 0.3), "match": (0.3, 0.65), "map": (0.65, 1.0)}
_SAID: Final = {
    "features": "features of {} of {} photos",
    "match": "matched {} of {} blocks of pairs",
    "map": "{} of {} photos placed",
}


@dataclass(frozen=True)
class SelectedModel:
    """The model that was taken."""

    judged: CheckedModel
    folder: Path
    models: int
    attempts: tuple[PosesAttempt, ...]
    durations_s: dict[str, float]


class PoseSearch:
    """One stage's search for cameras."""

    def __init__(self, captured: ImageSet, params: NerfParams, context: Context, *, budget_s: float = BUDGET_S) -> None:
        """Work in the context's scratch folder."""
        self._captured = captured
        self._params = params
        self._context = context
        self._folder = context.scratch / "search"
        self._folder.mkdir()
        self._database = self._folder / "features.db"
        self.mapper = PycolmapRunner(self._folder, context.check, cores=WORKLOAD.compute.cpu_cores)
        self._files = [photo.file for photo in captured.photos]
        self._end_s = time.monotonic() + budget_s
        self._attempts: list[PosesAttempt] = []
        self._durations_s: dict[str, float] = {}
        #: Photos of each model of the best try so far, none counted twice, the largest first.
        self._groups: list[int] = []
        #: Of which try the database was that is kept.
        self._kept = 0
        #: The try that comes next, and whether only masked ones are of use.
        self._next = 0
        self._still = False
        self._matched: MatchCounts | None = None

    def run(self) -> SelectedModel:
        """Find the model.

        Raises:
            SaccadeError: POSES_NOT_FOUND, POSES_SPLIT, with the reason; TIMED_OUT; OUT_OF_MEMORY, WORKER_BROKEN.
            Stopped: the job was asked to stop.
        """
        names = [photo.original_name for photo in self._captured.photos]
        if len(names) < LEAST_PHOTOS:
            raise failure_reason(names, (), None)
        ladder = matching_schedule(
            len(names),
            ordered=self._captured.ordered,
            asked=self._params.matcher,
            masks=self._captured.all_masked,
        )
        matched_for = self._resume(ladder)
        for number, rung in enumerate(ladder):
            if number < self._next or (self._still and not rung.masked):
                continue
            try:
                found = self._try(number, rung, matched_for)
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
            matched_for = rung
        raise failure_reason(names, self._groups, self._matched, self._mapped_problem())

    def _mapped_problem(self) -> str:
        return next((one.problem for one in reversed(self._attempts) if one.photos_registered), "")

    def _resume(self, ladder: list[MatchingSettings]) -> MatchingSettings | None:
        """Go on where a lost run was; give the rung of the database that it kept."""
        path = self._context.checkpoint(STATE)
        if path is None:
            return None
        state = json.loads(path.read_text())
        kept = self._context.checkpoint(str(state["database"]))
        if kept is None:
            return None
        shutil.copyfile(kept, self._database)
        self._attempts = [PosesAttempt.model_validate(one) for one in state["attempts"]]
        self._groups, self._kept = list(state["groups"]), int(state["rung"])
        self._next, self._still = int(state["next"]), bool(state["still"])
        self._matched = read_match_counts(self._database, self._files)
        return ladder[self._kept]

    def _try(self, number: int, rung: MatchingSettings, matched_for: MatchingSettings | None) -> SelectedModel | None:
        began_s = time.monotonic()
        if matched_for is None or matched_for.features_key != rung.features_key:
            self._find_features(number, rung)
            matched_for = None
        if matched_for is None or matched_for.matcher != rung.matcher:
            self._match(number, rung)
            self._keep(number)
        self._matched = read_match_counts(self._database, self._files)
        problem = check_matches(self._matched)
        models = [] if problem else self._map(number, rung)
        judged = [(check_model(read_model(folder), self._files, self._matched), folder) for folder in models]
        judged.sort(key=lambda one: -len(one[0].kept))
        if not problem:
            problem = judged[0][0].problem if judged else "no two photos were a start"
        registered = len(judged[0][0].kept) if judged else 0
        self._attempts.append(
            PosesAttempt(
                matcher=rung.matcher,
                long_side_px=rung.long_side_px,
                features=rung.features,
                pairs=int((self._matched.candidates > 0).sum() // 2),
                photos_registered=registered,
                problem=problem,
                duration_s=round(time.monotonic() - began_s, 3),
            )
        )
        if judged and not problem:
            best, folder = judged[0]
            return SelectedModel(best, folder, len(models), tuple(self._attempts), dict(self._durations_s))
        if registered > max(self._groups, default=0):
            self._groups = _groups([one for one, _ in judged])
        self._still = self._still or (not rung.masked and background_is_static(self._matched))
        joined = rung.matcher == "exhaustive" and has_separate_models(self._groups, len(self._files))
        self._next = _NO_MORE if joined else number + 1
        self._keep_state()
        return None

    def _find_features(self, number: int, rung: MatchingSettings) -> None:
        order = {
            "images": str(self._captured.images),
            "masks": str(self._captured.images.with_name("masks")) if rung.masked else "",
            "cameras": self._captured.cameras(),
            "long_side_px": rung.long_side_px,
            "features": rung.features,
            "peak_threshold": rung.peak_threshold,
        }
        self._step("features", number, order, self._forget_database)

    def _match(self, number: int, rung: MatchingSettings) -> None:
        photos, long_side_px = self._captured.photos, max(max(p.width_px, p.height_px) for p in self._captured.photos)
        order = {
            "blocks": [
                [(self._files[one], self._files[other]) for one, other in block]
                for block in pairs.blocks(self._pairs(rung, len(photos)))
            ],
            "pairs": str(self._folder / "pairs.txt"),
            "seed": self._params.seed,
            "stationary_px": max(1.0, _STILL * long_side_px),
        }
        before = self._folder / "before.db"
        shutil.copyfile(self._database, before)

        def afresh() -> None:
            self._forget_database()
            shutil.copyfile(before, self._database)

        self._step("match", number, order, afresh)
        before.unlink()

    def _pairs(self, rung: MatchingSettings, photos: int) -> list[pairs.IndexPair]:
        if not rung.alike:
            return pairs.all_pairs(photos)
        descriptors = read_descriptors(self._database, self._files)
        return pairs.following_pairs(photos, rung.following) + pairs.similar_pairs(
            descriptors, rung.alike, self._params.seed
        )

    def _map(self, number: int, rung: MatchingSettings) -> list[Path]:
        models = self._folder / "models"
        order = {
            "images": str(self._captured.images),
            "models": str(models),
            "names": self._files,
            "seed": self._params.seed,
            "init_min_tri_angle_deg": rung.init_min_tri_angle_deg,
            "limit_s": self._left_s(),
        }

        def afresh() -> None:
            shutil.rmtree(models, ignore_errors=True)
            models.mkdir()

        self._step("map", number, order, afresh)
        return sorted(path.parent for path in models.glob("*/images.bin"))

    def _step(self, step: str, number: int, order: dict[str, Any], afresh: Any) -> None:
        # A later try has less and less of what is left of the bar: it never goes back.
        low, high = 0.9 * (1 - 0.3**number), 0.9 * (1 - 0.3 ** (number + 1))

        def told(part: str, done: int, total: int) -> None:
            if part not in _SAID:
                return
            first, last = _PARTS[part]
            share = first + (last - first) * done / max(1, total)
            said = _SAID[part].format(done, total) + (f" (try {number + 1})" if number else "")
            self._context.progress(low + (high - low) * share, said)

        began_s = time.monotonic()
        order = {**order, "database": str(self._database)}
        # Mapping ends by itself at the end of its time, with what it has.
        limit_s = self._left_s() + (60.0 if step == "map" else 0.0)
        try:
            self.mapper.run(step, order, told, limit_s=limit_s, afresh=afresh)
        finally:
            spent_s = self._durations_s.get(step, 0.0) + time.monotonic() - began_s
            self._durations_s[step] = round(spent_s, 3)

    def _left_s(self) -> float:
        left_s = self._end_s - time.monotonic()
        if left_s <= 0:
            raise StepTimeout
        return left_s

    def _forget_database(self) -> None:
        for suffix in ("", "-wal", "-shm", "-journal"):
            self._database.with_name(self._database.name + suffix).unlink(missing_ok=True)

    def _keep(self, number: int) -> None:
        """Keep features and matches, first the bytes and then what points to them."""
        self._context.keep(self._database, f"poses_features_{number}.db")
        self._kept = self._next = number
        self._keep_state()

    def _keep_state(self) -> None:
        state = {
            "rung": self._kept,
            "next": self._next,
            "still": self._still,
            "groups": self._groups,
            "database": f"poses_features_{self._kept}.db",
            "attempts": [attempt.model_dump() for attempt in self._attempts],
        }
        path = self._folder / STATE
        path.write_text(json.dumps(state))
        self._context.keep(path, STATE)


def _groups(judged: list[CheckedModel]) -> list[int]:
    """Count the photos of each model that no larger one has."""
    seen, sizes = set[str](), []
    for one in judged:
        sizes.append(len(set(one.names) - seen))
        seen |= set(one.names)
    return sizes
