"""``saccade demo nerf``: turn rendered photos of a toy into transparent frames, and compare with the ground truth."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
from saccade_client import Client, Job

from cli.browser import open_in_browser
from cli.connection import open_client
from cli.demo.demo_server import demo_server, demo_url_option, wait_for_interrupt
from cli.failure import Failure
from cli.jobs.download import download_artifacts
from cli.jobs.follow import follow_job
from cli.output import display_path, print_json, print_line, print_table
from cli.progress_bar import format_duration, progress_bar
from cli.settings import CommandSettings

_WORKLOAD: Final = "nerf"
#: Goals of the demo: camera error as a share of the orbit's radius, PSNR, and the share of matched edges.
POSE_ERROR: Final = 0.005
PSNR_DB: Final = 24.0
EDGES: Final = 0.95
#: From this number of frames there are four rings of cameras, else two, as in the pipeline's own default.
_FOUR_RINGS_FRAMES: Final = 360


@click.command("nerf")
@demo_url_option
@click.option("--data", type=click.Path(path_type=Path), help="Folder for all data. [default: ./.saccade]")
@click.option("--photos", type=click.IntRange(15, 200), default=40, show_default=True, help="Number of photos.")
@click.option(
    "--frames",
    type=click.IntRange(2, 14_400),
    default=72,
    show_default=True,
    help="Number of frames to render; 1440 for a full orbit.",
)
@click.option(
    "--size",
    "size_px",
    type=click.IntRange(32, 2048),
    default=256,
    show_default=True,
    help="Width and height of a frame, px.",
)
@click.option(
    "--preset",
    type=click.Choice(["draft", "standard", "best"]),
    default="standard",
    show_default=True,
    help="Quality and duration of the training.",
)
@click.option("--iterations", type=click.IntRange(50, 200_000), help="Training iterations. [default: the preset's]")
@click.option(
    "--masks/--no-masks", default=False, help="Send object masks too. [default: the object is segmented automatically]"
)
@click.option("--seed", type=int, default=0, show_default=True, help="Each seed gives another toy.")
@click.option("--open/--no-open", "opened", default=None, help="Open the viewer. [default: at a terminal]")
@click.option("--keep", is_flag=True, help="Keep the system running afterwards, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value: figures, ground truth and paths.")
def nerf(
    *,
    url: str | None,
    data: Path | None,
    photos: int,
    frames: int,
    size_px: int,
    preset: str,
    iterations: int | None,
    masks: bool,
    seed: int,
    opened: bool | None,
    keep: bool,
    as_json: bool,
) -> None:
    """Build a 3D model from rendered photos.

    Turn rendered photos of a toy into a 3D model and transparent frames from all sides, and compare them with the toy.
    """
    _check_installed()
    if frames % 2:
        raise Failure(
            f"{frames} frames cannot be split into two equal rings.", code="usage", hint="Use an even number of frames."
        )
    data = data or CommandSettings().data
    began_s = time.monotonic()
    with demo_server(url, data) as (server, started):
        if not as_json:
            print_line(f"{'Started' if started else 'Using'} Saccade at {server}.")
            print_line(
                "Input: photos of a toy on a table. Result: the toy alone, as transparent frames from all sides.\n"
            )
        source = data / "demo" / f"photos-{seed}-{photos}"
        _photograph(source, seed, photos, masks=masks, silent=as_json)
        with open_client(server) as client:
            wanted = {"frame_size_px": size_px, "preset": preset, "iterations": iterations, "seed": seed}
            params = _orbit(frames) | wanted
            client.check(_WORKLOAD, params)
            inputs = _send(client, source, masks=masks, silent=as_json)
            job = client.submit(_WORKLOAD, inputs, params, metadata={"from": "saccade demo nerf"})
            job = follow_job(client, job.id, silent=as_json)
            folder = data / "demo" / job.id
            download_artifacts(client, job.id, folder, silent=as_json)
        compared = _compare(folder, source, silent=as_json)
        took_s = time.monotonic() - began_s
        if as_json:
            print_json({"result": job.result, "truth": compared, "took_s": round(took_s, 1), "folder": str(folder)})
        else:
            _show(job, compared, folder, took_s)
        if sys.stdout.isatty() and not as_json if opened is None else opened:
            open_in_browser((folder / "spin.html").absolute().as_uri())
        if keep and started:
            wait_for_interrupt(f"Saccade still runs at {server}. Press Ctrl-C to stop it.")


def _check_installed() -> None:
    missing = [name for name in ("torch", "pycolmap", "cv2", "av", "PIL") if importlib.util.find_spec(name) is None]
    if missing:
        raise Failure(
            f"The demo needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed.",
            code="nerf_not_installed",
            hint='Run: pip install -c constraints.txt -e ".[nerf]"; or run make demo-nerf, which installs them.',
        )


def _orbit(frames: int) -> dict[str, Any]:
    return {"frames": frames, "elevations": 4 if frames >= _FOUR_RINGS_FRAMES and frames % 4 == 0 else 2}


def _photograph(folder: Path, seed: int, photos: int, *, masks: bool, silent: bool) -> None:
    """Render the photos into an empty folder."""
    from simulators.toy.photos import take_photos  # noqa: PLC0415 - only this demo renders
    from simulators.toy.room_scene import BRIGHT  # noqa: PLC0415

    shutil.rmtree(folder, ignore_errors=True)
    with progress_bar(f"Rendering {photos} photos", silent=silent) as update:
        take_photos(
            folder, seed=seed, photos=photos, bounced=BRIGHT, masks=masks, progress=lambda share: update(share, "")
        )
        update(1.0, "")


def _send(client: Client, folder: Path, *, masks: bool, silent: bool) -> dict[str, str | list[str]]:
    """Upload the photos, and the masks if requested."""
    groups = {"photos": sorted(folder.glob("*.jpg"))}
    if masks:
        groups["masks"] = sorted((folder / "masks").glob("*.png"))
    total = sum(len(paths) for paths in groups.values())
    inputs: dict[str, str | list[str]] = {}
    with progress_bar("Uploading", silent=silent) as update:
        sent = 0
        for name, paths in groups.items():
            ids = []
            for path in paths:
                ids.append(client.upload(path, state_dir=CommandSettings().uploads_dir).id)
                sent += 1
                update(sent / total, path.name)
            inputs[name] = ids
    return inputs


def _compare(folder: Path, source: Path, *, silent: bool) -> dict[str, Any]:
    """Compare the result with the ground truth."""
    from simulators.toy.comparison import compare_with_truth  # noqa: PLC0415
    from simulators.toy.ground_truth import ToyGroundTruth  # noqa: PLC0415

    with progress_bar("Comparing", silent=silent) as update:
        found = compare_with_truth(folder, ToyGroundTruth.load(source / "truth.json"))
        update(1.0, "with the ground truth")
    return asdict(found)


def _show(job: Job, truth: dict[str, Any], folder: Path, took_s: float) -> None:
    result = job.result
    assert result is not None
    print_line(f"\n{job.headline}.")
    poses, model, frames = result["poses"], result["model"], result["frames"]
    placed = f"{poses['photos_registered']} of {poses['photos_given']} photos registered"
    verified = f"{frames['verified']:,} of {frames['frames']:,} frames verified"
    print_line(f"{placed}, {model['splats']:,} splats, {verified}.\n")
    rows = [
        _row(
            "camera position error, % of the orbit's radius", 100 * truth["pose_error_rms"], 100 * POSE_ERROR, most=True
        ),
        _row("PSNR on held-out photos, dB", model["psnr_db"] or 0.0, PSNR_DB, most=False),
        _row("alpha edge within 2 px of the true edge, %", 100 * truth["edges_near"], 100 * EDGES, most=False),
        _row("true edge within 2 px of the alpha edge, %", 100 * truth["edges_found"], 100 * EDGES, most=False),
    ]
    print_table(("Compared with the ground truth", "MEASURED", "GOAL", ""), rows)
    if (agreement := model["outline_agreement"]) is not None:
        doubtful = " That is low: check the frames, or send masks." if model["outline_doubtful"] else ""
        where = f"{100 * agreement:.1f} % of the alpha edge agrees with the outline in held-out photos."
        print_line(f"\nWithout the ground truth: {where}{doubtful}")
    print_line(f"\nPSNR of the frames against the toy: {truth['psnr_db']:.1f} dB over {truth['frames']} frames.")
    stages = " · ".join(
        f"{stage['stage']} {format_duration(stage['actual_s'])}"
        for stage in result["stages"]
        if stage["actual_s"] is not None
    )
    print_line(f"\nViewer   {display_path((folder / 'spin.html').absolute())}   (open it in a browser)")
    print_line(f"Report   {display_path((folder / 'report.html').absolute())}")
    print_line(f"Model    {display_path((folder / 'splat.html').absolute())}")
    print_line(f"Frames   {display_path((folder / 'frames').absolute())}")
    print_line(f"Took {format_duration(took_s)}: {stages}")


def _row(name: str, measured: float, wanted: float, *, most: bool) -> tuple[str, str, str, str]:
    reached = measured <= wanted if most else measured >= wanted
    return name, f"{measured:.2f}", f"{'≤' if most else '≥'} {wanted:g}", "" if reached else "missed"
