"""``saccade calibrate``: hand-eye calibration and intrinsics of a gripper camera, from a recording."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import numpy as np

from cli.connection import open_client, server_options
from cli.failure import Failure
from cli.output import print_json, print_line, print_note
from cli.progress_bar import ProgressCallback, progress_bar
from contracts.ids import is_id

if TYPE_CHECKING:
    from cli.calibrate.calibration import CalibrationResult
    from modal_workers.live_splat.calibration.target import CalibrationTarget

_FILE: Final = "calibration.json"
_FRAMES_MOST: Final = 200
_POSES: Final = click.Path(dir_okay=False, path_type=Path)


def _counts(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Parse two counts, as in 9x6."""
    if value is None:
        return None
    columns, cross, rows = value.lower().partition("x")
    if not (cross and columns.isdigit() and rows.isdigit()):
        raise click.BadParameter(f"{value}: write two counts, for example 9x6.", ctx, param)
    return int(columns), int(rows)


_COUNTS: Final[Any] = {"callback": _counts, "metavar": "COLUMNSxROWS"}


@click.command()
@click.argument("source")
@click.option("--charuco", **_COUNTS, help="The target is a ChArUco board; its number of squares.")
@click.option("--chessboard", **_COUNTS, help="The target is a chessboard; its number of inner corners.")
@click.option(
    "--square-mm", type=click.FloatRange(min=0, min_open=True), help="Side of a square, measured on the print."
)
@click.option(
    "--marker-mm", type=click.FloatRange(min=0, min_open=True), help="Side of a marker. [default: 0.75 of a square]"
)
@click.option("--dictionary", default="DICT_4X4_50", show_default=True, help="OpenCV's name of the marker dictionary.")
@click.option("--poses", type=_POSES, help="Instead of a target: COLMAP's images.txt, or poses as JSON.")
@click.option("--intrinsics", type=_POSES, help="Known intrinsics as JSON. [default: found from the target]")
@click.option("--camera", help="Camera to calibrate, if the recording has several.")
@click.option("--robot", help="Robot whose joints are used, if the recording has several.")
@click.option("--views", type=click.IntRange(10, 200), default=40, show_default=True, help="Maximum number of views.")
@click.option(
    "--refine-joints/--no-refine-joints", default=True, help="Also estimate the offsets of the joints' zeros."
)
@click.option(
    "--frames-to",
    type=click.Path(file_okay=False, path_type=Path),
    help="Only write frames and joints into this folder.",
)
@click.option("--output", "-o", type=_POSES, default=_FILE, show_default=True, help="File for the parameters.")
@click.option("--anyway", is_flag=True, help="Write the file even if the calibration is doubtful.")
@server_options
def calibrate(
    source: str, *, output: Path, anyway: bool, frames_to: Path | None, as_json: bool, **options: Any
) -> None:
    """Calibrate the camera on a gripper.

    Find the pose and the intrinsics of the camera on an SO-101's gripper.

    SOURCE is an exported session (session.mcap), the id of a session, or a folder with pictures and joints.json. Hold
    the arm still in 15 to 30 poses that see a board on the table from all sides. Use the written file with
    `saccade sessions open live_splat --params @calibration.json`.
    """
    with _recording_of(source, options.pop("url"), silent=as_json) as path:
        if frames_to is not None:
            _write_frames(path, frames_to, options, as_json=as_json)
            return
        with progress_bar("Calibrating", silent=as_json) as update:
            result = _calibrated(path, options, update)
    written = not result.doubts or anyway
    if written:
        output.write_text(json.dumps(result.parameters(), indent=1) + "\n")
    if as_json:
        print_json(result.as_json() | {"path": str(output.absolute()) if written else None})
    else:
        _print_result(result)
        if written:
            print_line(f"Wrote {output}. To use it: saccade sessions open live_splat --params @{output}")
    if not written:
        hint = "Record again as the doubts suggest; --anyway writes the file nevertheless."
        raise Failure(f"{output} is not written: the calibration is doubtful.", code="calibration_doubtful", hint=hint)


@contextmanager
def _recording_of(source: str, url: str | None, *, silent: bool) -> Iterator[Path]:
    """Yield the recording's path; a session is exported to a temporary file first."""
    if not is_id(source, "ses"):
        yield Path(source)
        return
    from cli.sessions.mcap_export import export_session  # noqa: PLC0415 - only a session needs it

    with tempfile.TemporaryDirectory(prefix="saccade-") as folder:
        path = Path(folder) / "session.mcap"
        with open_client(url) as client, progress_bar("Exporting", silent=silent) as update:
            export_session(client, source, path, update)
        yield path


def _calibrated(path: Path, options: dict[str, Any], update: ProgressCallback) -> CalibrationResult:
    target = _target(
        **{name: options[name] for name in ("charuco", "chessboard", "square_mm", "marker_mm", "dictionary")}
    )
    if (target is None) == (options["poses"] is None):
        hint = "For example: --charuco 8x6 --square-mm 20, or --poses sparse/images.txt"
        raise click.UsageError(f"Choose one of --charuco, --chessboard and --poses. {hint}")
    from cli.calibrate.calibration import read_intrinsics, with_poses, with_target  # noqa: PLC0415 - importing OpenCV is slow
    from cli.calibrate.recording import open_recording  # noqa: PLC0415

    lens = None if options["intrinsics"] is None else read_intrinsics(options["intrinsics"])
    recording = open_recording(path, options["camera"], options["robot"])
    if target is None:
        return with_poses(recording, options["poses"], lens)
    return with_target(recording, target, lens, options["views"], update, refine_joints=options["refine_joints"])


def _target(
    *,
    charuco: tuple[int, int] | None,
    chessboard: tuple[int, int] | None,
    square_mm: float | None,
    marker_mm: float | None,
    dictionary: str,
) -> CalibrationTarget | None:
    if charuco is None and chessboard is None:
        return None
    if charuco is not None and chessboard is not None:
        raise click.UsageError("Use --charuco or --chessboard, not both.")
    if square_mm is None:
        raise click.UsageError("--square-mm is required: measure the printed board, because printers scale.")
    from modal_workers.live_splat.calibration.target import CharucoBoard, Chessboard  # noqa: PLC0415 - importing OpenCV is slow

    if chessboard is not None:
        return Chessboard(*chessboard, square_mm / 1e3)
    assert charuco is not None
    return CharucoBoard(*charuco, square_mm / 1e3, (marker_mm or 0.75 * square_mm) / 1e3, dictionary)


def _write_frames(path: Path, folder: Path, options: dict[str, Any], *, as_json: bool) -> None:
    """Write frames with the arm in different poses, for structure from motion."""
    from cli.calibrate.calibration import frames_apart  # noqa: PLC0415
    from cli.calibrate.recording import open_recording, write_folder  # noqa: PLC0415

    recording = open_recording(path, options["camera"], options["robot"])
    wanted = frames_apart(recording, _FRAMES_MOST)
    write_folder(recording, wanted, folder)
    if as_json:
        print_json({"path": str(folder.absolute()), "frames": len(wanted)})
    else:
        print_line(f"{folder}: {len(wanted)} frames and their joints.")


def _print_result(result: CalibrationResult) -> None:
    eye, lens, halves = result.calibration.hand_eye, result.lens, result.calibration
    left_out = "".join(f"; {name} left out, {off:.0f} mm off" for name, off in result.left_out.items())
    print_line(f"views      {eye.views}, of {result.looked_at} frames{left_out}")
    if lens is not None:
        found = (
            "" if lens.residual_px is None else f" ± {lens.focal_error_px:.1f}, corners {lens.residual_px:.2f} px error"
        )
        bent = " ".join(f"{value:+.4f}" for value in lens.distortion) or "none"
        print_line(f"lens       {lens.width_px} x {lens.height_px}, focal {lens.camera_matrix[0, 0]:.1f} px{found}")
        print_line(f"           distortion {bent}")
    x, y, z = 1e3 * eye.gripper_from_camera[:3, 3]
    print_line(f"camera     {x:+.1f} {y:+.1f} {z:+.1f} mm from gripper_frame_link")
    corners = "" if eye.residual_px is None else f"corners {eye.residual_px:.2f} px, "
    print_line(f"residuals  {corners}arm and camera {eye.residual_mm:.2f} mm and {eye.residual_deg:.2f} degrees apart")
    if halves.halves_mm is not None:
        print_line(f"halves     {halves.halves_mm:.2f} mm and {halves.halves_deg:.2f} degrees apart")
    if eye.joint_offsets_rad:
        zeros = ", ".join(f"{name} {np.rad2deg(value):+.2f}" for name, value in eye.joint_offsets_rad.items())
        print_line(f"offsets    {zeros} degrees (a session estimates these itself)")
    print_line("gripper_from_camera")
    rows = result.parameters()["gripper_from_camera"]
    for row in range(4):
        print_line("  " + " ".join(f"{value:12.8f}" for value in rows[4 * row : 4 * row + 4]))
    for text in result.notes:
        print_note(f"  note: {text}")
    for doubt in result.doubts:
        print_note(f"  doubt: {doubt}")
    print_line("The calibration is reliable." if not result.doubts else "The calibration is doubtful.")
