"""Verdict on the photos: whether they are good enough, why, and what to shoot again. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from modal_workers.nerf.capture.checks.findings import Findings
from modal_workers.nerf.capture.checks.view_graph import WIDE_GAP_DEG, gap_is_bridged
from modal_workers.nerf.capture.spec import ENOUGH_PHOTOS, FEWEST_PHOTOS, Orbit, Reason, Skipped, Verdict
from modal_workers.nerf.photo_arcs import REFUSED_GAP_DEG

#: Shares of the photos above which a flaw refuses the capture instead of a warning.
_BLURRED: Final = 0.4
_PLAIN: Final = 0.5
_BLACK: Final = 0.5
_BACKGROUND: Final = 0.4
_LINKED_SHARE: Final = 0.75
#: Average number of links per photo below which gaps are likely.
_LINKS_MIN: Final = 3.0
_NAMED: Final = 40
#: The gap is a rough estimate here; the poses stage checks it again, exactly.
_GAP_ERROR_DEG: Final = 40.0
#: What a user can do who has no photos of the other sides.
_ONLY_PHOTOGRAPHED: Final = "With ignore_verdict, only the photographed side is rendered."
_SEND_AGAIN: Final = "Send whole JPEG, PNG, WebP or HEIC photos in place of these files"
_SHOOT_AGAIN: Final = (
    "Take all photos in one session, from all sides: about 40 photos on two rings, each showing most of what the "
    "previous one shows."
)


def judge(findings: Findings, skipped: Sequence[Skipped]) -> Verdict:
    """Weigh the findings. Refused: no useful model can result; usable: it can, but better photos would help."""
    reasons = [
        *_files(skipped),
        *_count(findings, skipped),
        *_sharpness_and_light(findings),
        *_texture(findings),
        *_background(findings),
        *_repetitions(findings),
        *_connection(findings),
        *_cameras(findings),
        *_gaps(findings),
    ]
    severities = {reason.severity for reason in reasons}
    accept: Literal["good", "usable", "refused"] = "good"
    if "refusal" in severities:
        accept = "refused"
    elif "warning" in severities:
        accept = "usable"
    order = {"refusal": 0, "warning": 1, "note": 2}
    return Verdict(
        accept=accept,
        score=round(score(findings), 3),
        reasons=sorted(reasons, key=lambda reason: order[reason.severity]),
    )


def score(findings: Findings) -> float:
    """Return the share of sharp, linked and new photos, reduced by how little of the circle they cover."""
    if not findings.photos:
        return 0.0
    worthless = {*findings.blurred, *findings.repetitions, *findings.black, *findings.burnt}
    good = [number for number in findings.components[0] if number not in worthless]
    share = len(good) / len(findings.photos) * min(1.0, len(good) / ENOUGH_PHOTOS)
    coverage = min(1.0, 0.4 + findings.directions.coverage_deg / 360 * 0.7) if findings.directions else 0.4
    return share * coverage * (1 - findings.still_background)


def orbit_of(findings: Findings) -> Orbit | None:
    """Return the directions from which the photos were taken, with the user's file names."""
    directions = findings.directions
    # Too few rotations of the component are known for a statement.
    if directions is None or len(directions.photos) < 0.6 * len(findings.components[0]):
        return None
    names = [findings.photos[number].name for number in directions.gap_between]
    return Orbit(
        coverage_deg=round(directions.coverage_deg, 1),
        closed=directions.widest_gap_deg <= WIDE_GAP_DEG or gap_is_bridged(directions, findings.pairs),
        rings=directions.rings,
        widest_gap_deg=round(directions.widest_gap_deg, 1),
        gap_between=names,
    )


def _reason(  # noqa: PLR0917 - one argument per field of Reason
    findings: Findings,
    code: str,
    severity: Literal["refusal", "warning", "note"],
    message: str,
    fix: str,
    photos: Sequence[int] = (),
) -> Reason:
    names = [findings.photos[number].name for number in sorted(photos)]
    return Reason(code=code, severity=severity, message=message, photos=names[:_NAMED], fix=fix)


def _files(skipped: Sequence[Skipped]) -> list[Reason]:
    if not skipped:
        return []
    names = [file.name for file in skipped][:_NAMED]
    message = f"{_unused_files(skipped)}."
    fix = f"{_SEND_AGAIN}, or leave them out."
    return [Reason(code="files_skipped", severity="warning", message=message, photos=names, fix=fix)]


def _unused_files(skipped: Sequence[Skipped]) -> str:
    parts = [f"{file.name}: {file.reason}" for file in skipped[:3]]
    if len(skipped) > 3:
        parts.append(f"and {len(skipped) - 3} more")
    return f"{_files_word(len(skipped))} could not be used: {'; '.join(parts)}"


def _count(findings: Findings, skipped: Sequence[Skipped]) -> list[Reason]:
    """Report that too few photos are left, and why: the error of a job shows this reason alone."""
    count = len(findings.photos)
    useful = count - len({*findings.blurred, *findings.repetitions, *findings.black, *findings.burnt})
    if useful >= ENOUGH_PHOTOS:
        return []
    if useful >= FEWEST_PHOTOS:
        few = (
            f"Only {useful} photos are sharp and from different places: the model may have gaps. Better are 30 or more."
        )
        return [_reason(findings, "few_photos", "warning", few, _SHOOT_AGAIN)]
    message = "There is one photo" if count == 1 else f"There are {count or 'no'} photos"
    lost = [
        f"{len(photos)} {word}"
        for photos, word in (
            (findings.blurred, "blurred"),
            (findings.black, "almost black"),
            (findings.burnt, "almost white"),
            (findings.repetitions, "taken from the same place as another one"),
        )
        if photos
    ]
    if lost and count > 1:
        message += f", {' and '.join(lost)}"
    if skipped:
        message += f"; {_unused_files(skipped)}"
    message += f". At least {FEWEST_PHOTOS} sharp photos from different places are needed."
    # The files that could not be used may have been enough.
    fixes = [f"{_SEND_AGAIN}."] * bool(skipped) + [_SHOOT_AGAIN] * (len(skipped) < FEWEST_PHOTOS - useful)
    return [_reason(findings, "too_few_photos", "refusal", message, " ".join(fixes))]


def _sharpness_and_light(findings: Findings) -> list[Reason]:
    reasons: list[Reason] = []
    count = max(1, len(findings.photos))
    if findings.blurred:
        share = len(findings.blurred) / count
        again = "Shoot these again" if share < 0.9 else "Shoot all of them again"
        fix = f"{again} with more light or a tripod, and hold still until the shutter closes."
        compared = "" if share > 0.9 else ", compared with the sharpest of this capture"
        message = f"{_share(findings.blurred, count)} blurred{compared}."
        severity: Literal["refusal", "warning"] = "refusal" if share > _BLURRED else "warning"
        reasons.append(_reason(findings, "blurred", severity, message, fix, findings.blurred))
    for code, photos, word, fix in (
        ("too_dark", findings.black, "almost black", "Shoot these again with more light or a longer exposure."),
        ("too_bright", findings.burnt, "almost white", "Shoot these again with a shorter exposure."),
    ):
        if photos:
            severity = "refusal" if len(photos) > _BLACK * count else "warning"
            reasons.append(_reason(findings, code, severity, f"{_share(photos, count)} {word}.", fix, photos))
    if findings.uneven and not findings.black and not findings.burnt:
        message = f"{_share(findings.uneven, count)} much brighter or darker than the others."
        fix = "Lock exposure and white balance while you walk around the object, and shoot these again."
        reasons.append(_reason(findings, "uneven_exposure", "warning", message, fix, findings.uneven))
    return reasons


def _texture(findings: Findings) -> list[Reason]:
    plain = [number for number in findings.plain if number not in findings.black and number not in findings.burnt]
    if not plain:
        return []
    count = len(findings.photos)
    severity: Literal["refusal", "warning"] = "refusal" if len(plain) > _PLAIN * count else "warning"
    message = f"{_share(plain, count)} too plain: they have hardly any features to match."
    fix = "Put the object on a printed, patterned sheet (newspaper will do), and take all photos with more light."
    return [_reason(findings, "textureless", severity, message, fix, plain)]


def _background(findings: Findings) -> list[Reason]:
    if findings.still_background <= _BACKGROUND:
        return []
    message = (
        f"In {findings.still_background:.0%} of the pairs the background stands still while the object turns: "
        "the cameras would be placed in the room and not around the object."
    )
    fix = (
        "Walk around the object and leave it where it is. On a turntable, hang a plain cloth behind it that fills the "
        "picture, or send masks of the object."
    )
    return [_reason(findings, "still_background", "refusal", message, fix)]


def _repetitions(findings: Findings) -> list[Reason]:
    repeated = findings.repetitions
    if not repeated:
        return []
    message = f"{_share(repeated, len(findings.photos))} taken from the same place as another one."
    fix = "Move about ten degrees around the object between photos. These photos add nothing and can be left out."
    enough = len(repeated) <= 0.1 * len(findings.photos)
    return [_reason(findings, "repeated", "note" if enough else "warning", message, fix, repeated)]


def _connection(findings: Findings) -> list[Reason]:
    """Report how the photos are linked, except photos whose problem is reported already."""
    count = len(findings.photos)
    explained = {*findings.blurred, *findings.plain, *findings.black, *findings.burnt}
    # Photos from the same place have no links, because nothing moved between them.
    if len({*explained, *findings.repetitions}) > 0.5 * count:
        return []
    if count < 3 or findings.still_background > _BACKGROUND:
        return []
    largest, *others = findings.components
    unlinked = [number for component in others for number in component if number not in explained]
    reasons: list[Reason] = []
    scenes = [component for component in others if len(component) >= max(4, 0.15 * count)]
    judged = max(1, count - len([number for number in explained if number not in largest]))
    if scenes:
        sizes = " and ".join(str(len(component)) for component in (largest, *scenes))
        message = f"The photos fall into pieces of {sizes} photos that do not show the same thing."
        fix = "Send one object and one place at a time. If it is one object, take photos between these and the others."
        kind: Literal["refusal", "warning"] = "refusal" if len(largest) < _LINKED_SHARE * judged else "warning"
        reasons.append(
            _reason(findings, "in_pieces", kind, message, fix, [number for scene in scenes for number in scene])
        )
        unlinked = [number for number in unlinked if not any(number in scene for scene in scenes)]
    if len(largest) < _LINKED_SHARE * judged and not scenes:
        message = f"Only {len(largest)} of {count} photos show something that another photo shows too."
        reasons.append(_reason(findings, "low_overlap", "refusal", message, _SHOOT_AGAIN, unlinked))
        return reasons
    if unlinked:
        message = f"{_share(unlinked, count)} of something else, or taken too far away from the others."
        fix = "Leave these out, or take photos between them and the others."
        reasons.append(_reason(findings, "outliers", "warning", message, fix, unlinked))
    return reasons + ([] if scenes else _weak_links(findings))


def _weak_links(findings: Findings) -> list[Reason]:
    """Report photos that are linked, but too weakly: a model of only a few of them is likely."""
    largest = findings.components[0]
    inside = set(largest) - set(findings.repetitions)
    if len(inside) < 3:
        return []
    links = sum(pair.tied and pair.first in inside and pair.second in inside for pair in findings.pairs)
    average = 2 * links / len(inside)
    if average >= _LINKS_MIN and len(findings.loose) <= 0.15 * len(largest):
        return []
    severity: Literal["refusal", "warning"] = "refusal" if average < 0.75 * _LINKS_MIN else "warning"
    message = f"A photo overlaps {average:.1f} others on average; with fewer than {_LINKS_MIN:.0f}, gaps are likely."
    return [_reason(findings, "low_overlap", severity, message, _SHOOT_AGAIN, findings.loose)]


def _cameras(findings: Findings) -> list[Reason]:
    if len(findings.formats) < 2:
        return []
    others = [number for group in findings.formats[1:] for number in group]
    sizes = [findings.photos[group[0]].format for group in findings.formats[:4]]
    parts = ", ".join(f"{width} x {height}" + (f" ({camera})" if camera else "") for camera, width, height in sizes)
    message = f"The photos come in {len(findings.formats)} formats: {parts}."
    fix = "Take all photos with one camera at one zoom, and send them unchanged: neither cropped nor scaled."
    return [_reason(findings, "mixed_cameras", "warning", message, fix, others)]


def _gaps(findings: Findings) -> list[Reason]:
    orbit = orbit_of(findings)
    if (
        orbit is None
        or orbit.closed
        or not findings.directions
        or len(findings.components[0]) < 0.6 * len(findings.photos)
    ):
        return []
    if len(findings.directions.photos) < 0.8 * len(findings.components[0]) or findings.still_background > _BACKGROUND:
        return []  # too few rotations are known to locate a gap
    between = " and ".join(orbit.gap_between)
    message = f"About {orbit.widest_gap_deg:.0f}° of the circle are in no photo, between {between}."
    fix = f"Take photos every ten degrees from {orbit.gap_between[0]} to {orbit.gap_between[1]}."
    severity: Literal["refusal", "warning"] = "warning"
    if orbit.widest_gap_deg > REFUSED_GAP_DEG + _GAP_ERROR_DEG:
        severity = "refusal"
        fix += f" {_ONLY_PHOTOGRAPHED}"
    return [_reason(findings, "open_round", severity, message, fix, findings.directions.gap_between)]


def _share(photos: Sequence[int], count: int) -> str:
    return f"{len(photos)} of {count} photos {'is' if len(photos) == 1 else 'are'}"


def _files_word(count: int) -> str:
    return "One file" if count == 1 else f"{count} files"
