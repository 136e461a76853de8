"""``saccade demo live``: stream a virtual robot arm's camera, and compare the splat with the ground truth."""

from __future__ import annotations

import importlib.util
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
import httpx

from cli.browser import show_page
from cli.demo.demo_server import demo_server, demo_url_option, wait_for_interrupt
from cli.demo.virtual_arm import HEIGHT_PX, WIDTH_PX, StreamingArm, virtual_arm
from cli.failure import Failure
from cli.output import display_path, print_json, print_line, print_note
from cli.progress_bar import format_duration
from cli.settings import CommandSettings

#: Frame rate of the camera; the worker takes as many frames as it has time for.
_FRAMES_HZ: Final = 6.0
_CHUNK_FRAMES: Final = 20
_POLL_S: Final = 0.5
_STOP_S: Final = 60


@dataclass
class LiveProgress:
    """Progress of the session so far."""

    first_splat_s: float | None = None
    chunks: list[dict[str, Any]] = field(default_factory=list)


@click.command("live")
@demo_url_option
@click.option("--data", type=click.Path(path_type=Path), help="Folder for all data. [default: ./.saccade]")
@click.option(
    "--seconds",
    "length_s",
    type=click.FloatRange(10, 3600),
    default=90.0,
    show_default=True,
    help="Duration of the session, s.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Each seed gives another table and motion.")
@click.option("--open/--no-open", "opened", default=None, help="Open the page in a browser. [default: at a terminal]")
@click.option("--keep", is_flag=True, help="Keep the system running afterwards, until Ctrl-C.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON value: figures of each chunk, ground truth and paths."
)
def live(
    *, url: str | None, data: Path | None, length_s: float, seed: int, opened: bool | None, keep: bool, as_json: bool
) -> None:
    """Build a splat from a virtual robot, live.

    Stream the camera frames of a virtual robot arm, turn them into a Gaussian splat, and compare it with the true
    scene.
    """
    if importlib.util.find_spec("torch") is None:
        raise Failure(
            "The live splat needs PyTorch, which is not installed.",
            code="splat_not_installed",
            hint='Run: pip install -c constraints.txt -e ".[splat]"; or run make demo-live, which installs it.',
        )
    settings = CommandSettings()
    data = data or settings.data
    key = settings.api_key.get_secret_value() if settings.api_key else None
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with (
        demo_server(url, data) as (server, started),
        virtual_arm(seed, _FRAMES_HZ) as arm,
        httpx.Client(headers=headers) as http,
    ):
        began_s = time.monotonic()
        session = arm.stream_to(server, {"seed": seed, "chunk_frames": _CHUNK_FRAMES}, key)
        page = f"{server}/sessions/{session.id}"
        if not as_json:
            print_line(f"{'Started' if started else 'Using'} Saccade at {server}.")
            print_line(f"A virtual SO-101 scans a table for {format_duration(length_s)}. Watch it: {page}\n")
            show_page(page, opened)
        progress = _follow(http, f"{server}/v1/sessions/{session.id}", arm, began_s, length_s, silent=as_json)
        streamed = arm.halt()
        ended = _stop(http, f"{server}/v1/sessions/{session.id}")
        path = _fetch(http, server, session.id, data)
        truth_db = _truth_db(arm, path)
        if as_json:
            print_json(_figures(ended, progress, truth_db, path, page))
        else:
            _show(ended, truth_db, path, streamed)
        if keep and started:
            wait_for_interrupt(f"The page stays at {page}. Press Ctrl-C to stop Saccade.")


def _follow(
    http: httpx.Client, url: str, arm: StreamingArm, began_s: float, length_s: float, *, silent: bool
) -> LiveProgress:
    """Print each chunk's figures until the time is over.

    Raises:
        Failure: the session or the arm ended before.
    """
    progress = LiveProgress()
    while time.monotonic() - began_s < length_s:
        time.sleep(_POLL_S)
        view = http.get(url).raise_for_status().json()
        if arm.error is not None:
            raise Failure(f"The arm stopped: {arm.error}.", code="program_failed")
        if view["state"] in ("failed", "stopped"):
            error = view.get("error") or {}
            raise Failure(
                error.get("message", "The session ended early."),
                code=error.get("code", "session_ended"),
                hint=error.get("hint", "See its worker's log in the data folder."),
            )
        figures, now_s = view.get("figures") or {}, time.monotonic() - began_s
        if progress.first_splat_s is None and figures.get("version"):
            progress.first_splat_s = now_s
            if not silent:
                print_line(f"  {now_s:5.1f} s  first splat, {figures['splats']:,} Gaussians")
        chunk = view.get("chunk")
        if chunk and chunk["number"] > len(progress.chunks):
            progress.chunks.append(
                {"chunk": chunk["number"], "after_s": round(now_s, 1), "frames": view["frames"]} | figures
            )
            if not silent:
                print_line(_line(progress.chunks[-1]))
    return progress


def _line(chunk: dict[str, Any]) -> str:
    psnr_db = chunk.get("psnr_db")
    score = "no held-out frame yet" if psnr_db is None else f"{psnr_db:.1f} dB on held-out frames"
    frames = chunk["frames"]
    return (
        f"  {chunk['after_s']:5.1f} s  chunk {chunk['chunk']}: {frames['accepted']} frames, "
        f"{chunk['splats']:,} Gaussians, {score}"
    )


def _stop(http: httpx.Client, url: str) -> dict[str, Any]:
    """Stop the session and wait until its worker has written the final model."""
    answer = http.post(f"{url}/stop", headers={"Prefer": f"wait={_STOP_S}"}, timeout=_STOP_S + 10)
    view: dict[str, Any] = answer.raise_for_status().json()
    if view["state"] != "stopped":
        raise Failure(f"The session is {view['state']}, not stopped.", code="session_not_stopped")
    return view


def _fetch(http: httpx.Client, server: str, session_id: str, data: Path) -> Path:
    path = data / "demo" / session_id / "model.ply"
    path.parent.mkdir(parents=True, exist_ok=True)
    answer = http.get(f"{server}/v1/sessions/{session_id}/ply", follow_redirects=True, timeout=60)
    path.write_bytes(answer.raise_for_status().content)
    return path


def _truth_db(arm: StreamingArm, path: Path) -> float:
    """Return the PSNR in dB of the model against the true scene, at poses where no frame was taken."""
    import torch  # noqa: PLC0415 - takes seconds to import

    from modal_workers.gaussians.camera import Camera  # noqa: PLC0415
    from modal_workers.gaussians.ply import decode_ply  # noqa: PLC0415
    from modal_workers.gaussians.rasterize import rasterize  # noqa: PLC0415
    from simulators.arm.ground_truth import sample_ground_truth  # noqa: PLC0415

    truth = sample_ground_truth(arm.scene, arm.motion, WIDTH_PX, HEIGHT_PX)
    matrix = truth.camera_matrix
    camera = Camera(WIDTH_PX, HEIGHT_PX, matrix[0, 0], matrix[1, 1], matrix[0, 2] + 0.5, matrix[1, 2] + 0.5)
    splats = decode_ply(path)
    with torch.no_grad():
        views = [
            rasterize(splats, camera, torch.from_numpy(pose).float()).colour.clamp(0, 1).mul(255).round()
            for pose in truth.camera_from_world
        ]
    return truth.psnr_db([view.to(torch.uint8).numpy() for view in views])


def _figures(ended: dict[str, Any], progress: LiveProgress, truth_db: float, path: Path, page: str) -> dict[str, Any]:
    return {
        "frames": ended["frames"],
        "figures": ended["figures"],
        "first_splat_s": progress.first_splat_s,
        "chunks": [{key: value for key, value in chunk.items() if key != "cameras"} for chunk in progress.chunks],
        "truth_psnr_db": round(truth_db, 2),
        "model": str(path.absolute()),
        "page": page,
    }


def _show(ended: dict[str, Any], truth_db: float, path: Path, streamed: Any) -> None:
    frames, figures = ended["frames"], ended["figures"]
    print_line(f"\nThe splat has {figures['splats']:,} Gaussians after {figures['steps']:,} steps.")
    if figures.get("psnr_db") is not None:
        print_line(f"  {figures['psnr_db']:.1f} dB on held-out frames")
    print_line(f"  {truth_db:.1f} dB against the true scene, at poses where no frame was taken")
    counts = " + ".join(f"{frames[name]} {name}" for name in ("accepted", "dropped", "rejected"))
    print_line(f"Frames: {frames['sent']} sent = {counts}")
    if streamed is not None:
        print_note(
            f"  {streamed.sent:,} of {streamed.offered:,} joint samples sent, {streamed.dropped} dropped by the client"
        )
    print_line(f"\nModel    {display_path(path.absolute())}   (3DGS PLY: opens in SuperSplat, Spark and others)")
