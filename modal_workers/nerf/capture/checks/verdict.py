"""Decides whether the photos will do, says why, and what to shoot again. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from modal_workers.nerf.capture.checks.findings import Findings
from modal_workers.nerf.capture.checks.view_graph import WIDE_GAP_DEG, gap_is_bridged
from modal_workers.nerf.capture.spec import FEWEST_PHOTOS, Orbit, Reason, Skipped, Verdict

#: Shares of the photos above which a flaw refuses the capture and does not only warn.
_BLURRED: Final = 0.4
_PLAIN: Final = 0.5
_BLACK: Final = 0.5
_BACKGROUND: Final = 0.4
_TIED: Final = 0.75
#: Photos are tied well to two others at least, and to more than three on average; fewer than so many points a photo
#: are too few to go by.
_TIES: Final = 3.0
_NAMED: Final = 40
_SEND_AGAIN: Final = "Send whole JPEG, PNG, WebP or HEIC photos in place of these files"
_TOGETHER: Final = (
    "Photograph it in one go, from all sides: about 40 photos on two rings, each showing most of what the one before "
    "it shows."
)


def judge(found: Findings, skipped: Sequence[Skipped]) -> Verdict:
    """Weigh the findings. Refused: nothing good can come of it; usable: it can, and better can be shot."""
    reasons = [
        *_files(skipped),
        *_number(found, skipped),
        *_light(found),
        *_texture(found),
        *_background(found),
        *_repetitions(found),
        *_connection(found),
        *_cameras(found),
        *_round(found),
    ]
    severities = {reason.severity for reason in reasons}
    accept: Literal["good", "usable", "refused"] = "good"
    if "refusal" in severities:
        accept = "refused"
    elif "warning" in severities:
        accept = "usable"
    order = {"refusal": 0, "warning": 1, "note": 2}
    return Verdict(
        accept=accept, score=round(score(found), 3), reasons=sorted(reasons, key=lambda one: order[one.severity])
    )


def score(found: Findings) -> float:
    """Give the share of the photos that are sharp, tied and new, times how far around they go (once half is seen)."""
    if not found.shots:
        return 0.0
    worthless = {*found.blurred, *found.repetitions, *found.black, *found.burnt}
    good = [one for one in found.components[0] if one not in worthless]
    share = len(good) / len(found.shots) * min(1.0, len(good) / FEWEST_PHOTOS)
    seen = min(1.0, 0.4 + found.around.coverage_deg / 360 * 0.7) if found.around else 0.4
    return share * seen * (1 - found.still_background)


def orbit_of(found: Findings) -> Orbit | None:
    """Say in words of the user's files from which sides the photos were taken."""
    around = found.around
    # Of a piece of which little could be followed nothing is known.
    if around is None or len(around.photos) < 0.6 * len(found.components[0]):
        return None
    names = [found.shots[one].name for one in around.gap_between]
    return Orbit(
        coverage_deg=round(around.coverage_deg, 1),
        closed=around.widest_gap_deg <= WIDE_GAP_DEG or gap_is_bridged(around.gap_between, found.pairs),
        rings=around.rings,
        widest_gap_deg=round(around.widest_gap_deg, 1),
        gap_between=names,
    )


def _reason(  # noqa: PLR0917 - a reason has so many sides
    found: Findings,
    code: str,
    severity: Literal["refusal", "warning", "note"],
    message: str,
    fix: str,
    photos: Sequence[int] = (),
) -> Reason:
    names = [found.shots[one].name for one in sorted(photos)]
    return Reason(code=code, severity=severity, message=message, photos=names[:_NAMED], fix=fix)


def _files(skipped: Sequence[Skipped]) -> list[Reason]:
    if not skipped:
        return []
    names = [one.name for one in skipped][:_NAMED]
    message = f"{_unused(skipped)}."
    fix = f"{_SEND_AGAIN}, or leave them out."
    return [Reason(code="files_skipped", severity="warning", message=message, photos=names, fix=fix)]


def _unused(skipped: Sequence[Skipped]) -> str:
    told = [f"{one.name}: {one.reason}" for one in skipped[:3]]
    if len(skipped) > 3:
        told.append(f"and {len(skipped) - 3} more")
    return f"{_files_word(len(skipped))} could not be used: {'; '.join(told)}"


def _number(found: Findings, skipped: Sequence[Skipped]) -> list[Reason]:
    """Say that too few photos are left, and where the others went: the error of a job shows this reason alone."""
    count = len(found.shots)
    useful = count - len({*found.blurred, *found.repetitions, *found.black, *found.burnt})
    if useful >= FEWEST_PHOTOS:
        return []
    message = "There is one photo" if count == 1 else f"There are {count or 'no'} photos"
    lost = [
        f"{len(photos)} {word}"
        for photos, word in (
            (found.blurred, "blurred"),
            (found.black, "almost black"),
            (found.burnt, "almost white"),
            (found.repetitions, "taken from where another one was"),
        )
        if photos
    ]
    if lost and count > 1:
        message += f", {' and '.join(lost)}"
    if skipped:
        message += f"; {_unused(skipped)}"
    message += f". At least {FEWEST_PHOTOS} that are sharp and show something new are needed."
    # With the files that could not be used there would be enough, perhaps.
    fixes = [f"{_SEND_AGAIN}."] * bool(skipped) + [_TOGETHER] * (len(skipped) < FEWEST_PHOTOS - useful)
    return [_reason(found, "too_few_photos", "refusal", message, " ".join(fixes))]


def _light(found: Findings) -> list[Reason]:
    reasons: list[Reason] = []
    count = max(1, len(found.shots))
    if found.blurred:
        share = len(found.blurred) / count
        again = "Shoot these again" if share < 0.9 else "Shoot all of them again"
        fix = f"{again} with more light or a tripod, and hold still until the shutter has closed."
        beside = "" if share > 0.9 else ", beside the sharpest of the same capture"
        message = f"{_share(found.blurred, count)} blurred{beside}."
        severity: Literal["refusal", "warning"] = "refusal" if share > _BLURRED else "warning"
        reasons.append(_reason(found, "blurred", severity, message, fix, found.blurred))
    for code, photos, word, fix in (
        ("too_dark", found.black, "almost black", "Shoot these again with more light or a longer exposure."),
        ("too_bright", found.burnt, "almost white", "Shoot these again with a shorter exposure."),
    ):
        if photos:
            severity = "refusal" if len(photos) > _BLACK * count else "warning"
            reasons.append(_reason(found, code, severity, f"{_share(photos, count)} {word}.", fix, photos))
    if found.uneven and not found.black and not found.burnt:
        message = f"{_share(found.uneven, count)} much brighter or darker than the others."
        fix = "Lock exposure and white balance while you walk around the object, and shoot these again."
        reasons.append(_reason(found, "uneven_exposure", "warning", message, fix, found.uneven))
    return reasons


def _texture(found: Findings) -> list[Reason]:
    plain = [one for one in found.plain if one not in found.black and one not in found.burnt]
    if not plain:
        return []
    count = len(found.shots)
    severity: Literal["refusal", "warning"] = "refusal" if len(plain) > _PLAIN * count else "warning"
    message = f"{_share(plain, count)} so plain that hardly a point in them can be found again."
    fix = "Put the object on a printed, patterned sheet (newspaper will do), and take all photos with more light."
    return [_reason(found, "textureless", severity, message, fix, plain)]


def _background(found: Findings) -> list[Reason]:
    if found.still_background <= _BACKGROUND:
        return []
    message = (
        f"In {found.still_background:.0%} of the pairs the background stands still while the object turns: "
        "to the cameras the room is what does not move."
    )
    fix = (
        "Walk around the object and leave it where it is; on a turntable hang a plain cloth behind it that fills the "
        "picture, or send masks of the object."
    )
    return [_reason(found, "still_background", "refusal", message, fix)]


def _repetitions(found: Findings) -> list[Reason]:
    repeated = found.repetitions
    if not repeated:
        return []
    message = f"{_share(repeated, len(found.shots))} taken from where another one was taken."
    fix = "Move by about ten degrees around the object from photo to photo; these add nothing and may be left out."
    enough = len(repeated) <= 0.1 * len(found.shots)
    return [_reason(found, "repeated", "note" if enough else "warning", message, fix, repeated)]


def _connection(found: Findings) -> list[Reason]:
    """Say how the photos hang together; nothing of those whose cause was told already."""
    count = len(found.shots)
    explained = {*found.blurred, *found.plain, *found.black, *found.burnt}
    # What was taken from the same place is tied to nothing by that: nothing moved.
    if len({*explained, *found.repetitions}) > 0.5 * count:
        return []
    if count < 3 or found.still_background > _BACKGROUND:
        return []
    largest, *others = found.components
    apart = [one for piece in others for one in piece if one not in explained]
    reasons: list[Reason] = []
    scenes = [piece for piece in others if len(piece) >= max(4, 0.15 * count)]
    judged = max(1, count - len([one for one in explained if one not in largest]))
    if scenes:
        sizes = " and ".join(str(len(piece)) for piece in (largest, *scenes))
        message = f"The photos fall into pieces of {sizes} that do not show the same."
        fix = "Send one object and one place at a time; for one object, take photos from between these and the others."
        kind: Literal["refusal", "warning"] = "refusal" if len(largest) < _TIED * judged else "warning"
        reasons.append(_reason(found, "in_pieces", kind, message, fix, [one for piece in scenes for one in piece]))
        apart = [one for one in apart if not any(one in piece for piece in scenes)]
    if len(largest) < _TIED * judged and not scenes:
        message = f"Only {len(largest)} of {count} photos show something that another one shows too."
        reasons.append(_reason(found, "low_overlap", "refusal", message, _TOGETHER, apart))
        return reasons
    if apart:
        message = f"{_share(apart, count)} of something else, or taken from too far away from the others."
        fix = "Leave these out, or take photos from between them and the others."
        reasons.append(_reason(found, "outliers", "warning", message, fix, apart))
    return reasons + ([] if scenes else _ties(found))


def _ties(found: Findings) -> list[Reason]:
    """Say that the photos are tied, but by too little: a model of a few of them is the likely end."""
    largest = found.components[0]
    inside = set(largest) - set(found.repetitions)
    if len(inside) < 3:
        return []
    ties = sum(pair.tied and pair.first in inside and pair.second in inside for pair in found.pairs)
    average = 2 * ties / len(inside)
    if average >= _TIES and len(found.loose) <= 0.15 * len(largest):
        return []
    severity: Literal["refusal", "warning"] = "refusal" if average < 0.75 * _TIES else "warning"
    message = f"A photo shows the same as {average:.1f} others on average; with fewer than {_TIES:.0f} gaps are likely."
    return [_reason(found, "low_overlap", severity, message, _TOGETHER, found.loose)]


def _cameras(found: Findings) -> list[Reason]:
    if len(found.formats) < 2:
        return []
    others = [one for group in found.formats[1:] for one in group]
    sizes = [found.shots[group[0]].format for group in found.formats[:4]]
    told = ", ".join(f"{width} x {height}" + (f" ({camera})" if camera else "") for camera, width, height in sizes)
    message = f"The photos come in {len(found.formats)} formats: {told}."
    fix = "Take all photos with one camera at one zoom, and send them as they came out of it: neither cut nor scaled."
    return [_reason(found, "mixed_cameras", "warning", message, fix, others)]


def _round(found: Findings) -> list[Reason]:
    orbit = orbit_of(found)
    if orbit is None or orbit.closed or not found.around or len(found.components[0]) < 0.6 * len(found.shots):
        return []
    if len(found.around.photos) < 0.8 * len(found.components[0]) or found.still_background > _BACKGROUND:
        return []  # too little of it could be followed to say where a gap is
    between = " and ".join(orbit.gap_between)
    message = f"About {orbit.widest_gap_deg:.0f}° of the way around are in no photo, between {between}."
    fix = f"Take photos every ten degrees from {orbit.gap_between[0]} on around to {orbit.gap_between[1]}."
    return [_reason(found, "open_round", "warning", message, fix, found.around.gap_between)]


def _share(photos: Sequence[int], count: int) -> str:
    return f"{len(photos)} of {count} photos {'is' if len(photos) == 1 else 'are'}"


def _files_word(count: int) -> str:
    return "One file" if count == 1 else f"{count} files"
