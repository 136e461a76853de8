"""The report section that explains how each number was measured and what it does not show."""

from __future__ import annotations

from html import escape

from modal_workers.footage.text_sprites import printable
from modal_workers.footage.video_reader import VideoFacts
from modal_workers.lap_compare import wording
from modal_workers.lap_compare.alignment.confidence import HALF_CONFIDENCE_ERROR_S
from modal_workers.lap_compare.comparison import Comparison
from modal_workers.lap_compare.lap_delta import GOOD_CONFIDENCE


def method_html(comparison: Comparison) -> str:
    """Return the section as a description list."""
    alignment = comparison.alignment
    mount = (
        "The cameras are mounted differently: B's frames were warped to match A's before the final pass."
        if alignment.mount_corrected
        else "The frames were compared unchanged: correcting for the camera mount did not improve the match."
    )
    entries = {
        "The same place, not the same time": (
            "Every moment of A was matched with the moment of B that shows the same place, by comparing the frames. "
            f"No GPS and no data logger were used. {mount}"
        ),
        "Times": (
            "Times are the containers' own timestamps, not frame counts. Lap time starts at the first place that both "
            f"clips show: {alignment.time_a_s[0]:.2f} s into A and {alignment.time_b_s[0]:.2f} s into B; the common "
            f"stretch ends at {alignment.time_a_s[-1]:.2f} s of A and {alignment.time_b_s[-1]:.2f} s of B."
        ),
        "Delta": (
            "B's time since the start of the stretch minus A's, at the same place. Above zero B is behind. It has no "
            "colour, neither ahead nor behind, while it is smaller than its error."
        ),
        "Error": (
            "Half the width of the 95 % band. The error of the total combines the errors at both ends of the stretch. "
            f"Parts of the picture that were aligned separately differ by {alignment.piecewise_s:.2f} s (median)."
        ),
        "Relative speed": (
            "A's time between two places divided by B's time between the same places: the slope of the alignment. It "
            "is a percentage of A's speed, known without measuring either speed."
        ),
        "Confidence": (
            f"0.5 where the error band is ±{HALF_CONFIDENCE_ERROR_S:g} s, higher where it is narrower. It is lower "
            f"where the pictures match badly (mean path cost {alignment.path_cost:.2f}; 0 means identical pictures), "
            "and for the whole lap where there is little evidence that both clips show the same road. Good starts at "
            f"{GOOD_CONFIDENCE:g}, fair at {wording.FAIR_CONFIDENCE:g}. Hatched stretches of the curve are poor: there "
            "the line is interpolated between better places."
        ),
        "Clip A": _clip(comparison.clip_a),
        "Clip B": _clip(comparison.clip_b),
    }
    rows = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in entries.items())
    return f"<dl>{rows}</dl>"


def _clip(clip: VideoFacts) -> str:
    pace = "variable frame rate, mean" if clip.variable_rate else "frame rate"
    rotated = f", rotated by {clip.rotation_deg}° as its metadata says" if clip.rotation_deg else ""
    return (
        f"{printable(clip.filename)}: {clip.width_px} x {clip.height_px} px{rotated}, {clip.frame_count} frames, "
        f"{clip.duration_s:.2f} s, {pace} {clip.mean_rate_hz:.2f} Hz."
    )
