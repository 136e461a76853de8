"""``saccade demo``: render two laps, compare them, and show the result next to the ground truth."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path
from typing import Any, Final

import click
from saccade_client import Client, Job

from cli.browser import open_in_browser, show_page
from cli.connection import open_client
from cli.demo.demo_server import demo_server, demo_url_option, wait_for_interrupt
from cli.demo.ground_truth import TrueLapTimes, curve_errors, figures, true_loss_s
from cli.demo.render_laps import render_laps
from cli.jobs.download import download_artifacts
from cli.jobs.follow import follow_job
from cli.jobs.submission import check_job, find_workload, upload_inputs
from cli.output import display_path, print_json, print_line, print_note, print_table
from cli.progress_bar import format_duration
from cli.settings import CommandSettings

_WORKLOAD: Final = "lap_compare"
#: Each demo is a module of this package with a command of its name.
_OTHERS: Final = ("badminton", "live", "nerf", "watch")


class _Stopwatch:
    """Durations of the demo's steps."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self.parts: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.parts[name] = now - self._last
        self._last = now


class _Demos(click.Group):
    """Command group that imports the other demos when they are called; ``saccade demo`` alone compares laps."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of the other demos."""
        return list(_OTHERS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return a demo."""
        if cmd_name not in _OTHERS:
            return None
        command: click.Command = getattr(importlib.import_module(f"cli.demo.{cmd_name}"), cmd_name)
        return command


@click.group(cls=_Demos, invoke_without_command=True)
@click.pass_context
@demo_url_option
@click.option("--data", type=click.Path(path_type=Path), help="Folder for all data. [default: ./.saccade]")
@click.option(
    "--laps", "lap_s", type=click.FloatRange(8, 600), default=25.0, show_default=True, help="Duration of a lap, s."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Each seed gives another circuit.")
@click.option(
    "--open/--no-open", "opened", default=None, help="Open the console in a browser. [default: at a terminal]"
)
@click.option("--keep", is_flag=True, help="Keep the system running afterwards, until Ctrl-C; so it is with --open.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value: results, ground truth and paths.")
def demo(
    context: click.Context,
    *,
    url: str | None,
    data: Path | None,
    lap_s: float,
    seed: int,
    opened: bool | None,
    keep: bool,
    as_json: bool,
) -> None:
    """Compare two rendered laps.

    Render two laps, compare them, and show the result next to the ground truth.
    """
    if context.invoked_subcommand is not None:
        return
    data = data or CommandSettings().data
    shown = sys.stdout.isatty() and not as_json if opened is None else opened
    clock = _Stopwatch()
    with demo_server(url, data) as (server, started):
        if not as_json:
            print_line(f"{'Started' if started else 'Using'} Saccade at {server}.")
            print_line("Input: videos of two laps on one circuit. Result: where the slower driver loses time.\n")
        clock.lap("start")
        laps = render_laps(data / "demo" / f"laps-{seed}", seed, lap_s, silent=as_json)
        clock.lap("film")  # a key of --json
        with open_client(server) as client:
            job, is_open = _compare(client, laps, clock, opened=shown, silent=as_json)
            folder = data / "demo" / job.id
            download_artifacts(client, job.id, folder, silent=as_json)
        result = job.result
        assert result is not None
        clock.lap("download")
        truth = TrueLapTimes.read(laps[2])
        if as_json:
            print_json({"headline": job.headline} | _as_json(result, truth, folder, clock))
        else:
            print_line(f"\n{job.headline}.\n")
            _show(result, truth, folder, clock)
            if started and not (keep or is_open):
                print_line("Console  saccade demo --keep leaves it running, with this job in it")
        if (keep or is_open) and started:
            page = _page_of(server, job)
            if not is_open:
                show_page(page, opened=False if as_json else None)
            wait_for_interrupt(f"Saccade still runs: see the job at {page}. Press Ctrl-C to stop it.")


def _page_of(server: str, job: Job) -> str:
    return f"{server}/console/jobs/{job.id}"


def _compare(
    client: Client, laps: tuple[Path, Path, Path], clock: _Stopwatch, *, opened: bool, silent: bool
) -> tuple[Job, bool]:
    """Upload the videos, submit the job, show its page and follow it to its result; return whether a page is open."""
    declared, files = find_workload(client, _WORKLOAD), [str(laps[0]), str(laps[1])]
    check_job(client, declared, files, {})
    inputs = upload_inputs(client, declared, files, silent=silent)
    clock.lap("upload")
    job = client.submit(_WORKLOAD, inputs, metadata={"from": "saccade demo"})
    if not silent:
        print_line(f"Console  {_page_of(client.url, job)}")
    is_open = opened and open_in_browser(_page_of(client.url, job))
    job = follow_job(client, job.id, silent=silent)
    clock.lap("compare")
    return job, is_open


def _show(result: dict[str, Any], truth: TrueLapTimes, folder: Path, clock: _Stopwatch) -> None:
    rows = [
        (
            figure.name,
            f"{figure.measured_s:+.3f}",
            f"{figure.band_s:.3f}",
            f"{figure.true_s:+.3f}",
            f"{figure.error_s:.3f}",
        )
        for figure in figures(result, truth)
    ]
    print_table(("B minus A, s", "MEASURED", "±", "TRUE", "ERROR"), rows)
    median_s, largest_s = curve_errors(folder / "delta.csv", truth)
    print_line(
        f"\nError of the delta along the lap: median {1000 * median_s:.0f} ms, maximum {1000 * largest_s:.0f} ms;"
    )
    print_line(f"confidence {result['confidence']:.2f} of 1.\n")
    print_line("Where time is lost")
    for loss in result["opportunities"]:
        driver = "B" if loss["loser"] == "other" else "A"
        where = f"between {loss['start_reference_s']:.1f} s and {loss['end_reference_s']:.1f} s of lap A"
        amount = f"{loss['lost_s']:.2f} ± {loss['error_s']:.2f} s"
        print_line(f"  {loss['rank']}. driver {driver} loses {amount} {where} (true: {true_loss_s(loss, truth):.2f} s)")
    for warning in result["warnings"]:
        print_note(f"  note: {warning}")
    spent = " · ".join(f"{name} {format_duration(seconds)}" for name, seconds in clock.parts.items())
    print_line(f"\nReport   {display_path((folder / 'report.html').absolute())}   (open it in a browser)")
    print_line(f"Overlay  {display_path((folder / 'overlay.mp4').absolute())}   (both laps, aligned by track position)")
    print_line(f"Took {format_duration(sum(clock.parts.values()))}: {spent}")


def _as_json(result: dict[str, Any], truth: TrueLapTimes, folder: Path, clock: _Stopwatch) -> dict[str, Any]:
    median_s, largest_s = curve_errors(folder / "delta.csv", truth)
    return {
        "figures": [
            {"name": figure.name, "measured_s": figure.measured_s, "band_s": figure.band_s, "true_s": figure.true_s}
            for figure in figures(result, truth)
        ],
        "delta_error_median_s": median_s,
        "delta_error_largest_s": largest_s,
        "opportunities": [loss | {"true_lost_s": true_loss_s(loss, truth)} for loss in result["opportunities"]],
        "confidence": result["confidence"],
        "report": str((folder / "report.html").absolute()),
        "overlay": str((folder / "overlay.mp4").absolute()),
        "spent_s": clock.parts,
    }
