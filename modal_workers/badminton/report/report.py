"""All files for readers: results, tables, report, and the views for clients of the system that is replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from modal_workers.badminton.analytics.analysis import Analysis
from modal_workers.badminton.match import Match
from modal_workers.badminton.output_file import OutputFile
from modal_workers.badminton.rendering.videos import RenderedVideos
from modal_workers.badminton.report import tables
from modal_workers.badminton.report.compat_files import write_compat_files
from modal_workers.badminton.report.pdf import write_pdf
from modal_workers.badminton.report.report_page import write_page
from modal_workers.badminton.report.results_file import write_results

_COMPAT_TITLES = {
    "results.json": "Results as the replaced system's file has them",
    "summary.json": "Summary for clients of the replaced system",
    "speed.json": "Speeds for clients of the replaced system",
    "zones.json": "Zones for clients of the replaced system",
    "heatmap.json": "Heat map for clients of the replaced system",
}


def write_report(
    match: Match,
    analysis: Analysis,
    rendered: RenderedVideos,
    out_dir: Path,
    *,
    video_id: str = "",
    check: Callable[[], None] | None = None,
) -> list[OutputFile]:
    """Write all files but the videos into ``out_dir``; return them in the order in which people read them.

    ``check`` is called between the files; what it raises stops the work.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    page = OutputFile(out_dir / "report.html", "report.html", "text/html", "Report")
    pdf = OutputFile(out_dir / "report.pdf", "report.pdf", "application/pdf", "Report to print")
    results = OutputFile(out_dir / "results.json", "results.json", "application/json", "All figures and tracks")
    players = OutputFile(
        out_dir / "players.csv", "players.csv", "text/csv", "Figures of the players", tables.PLAYER_UNITS
    )
    units = tables.rally_units(match.player_count)
    rallies = OutputFile(out_dir / "rallies.csv", "rallies.csv", "text/csv", "Figures of the rallies", units)
    steps: tuple[Callable[[], None], ...] = (
        lambda: write_results(match, analysis, results.path, video_id=video_id),
        lambda: tables.write_players(analysis, players.path),
        lambda: tables.write_rallies(analysis, rallies.path, match.player_count),
        lambda: write_page(match, analysis, rendered, page.path),
        lambda: write_pdf(match, analysis, pdf.path, still=rendered.still),
    )
    for step in steps:
        if check is not None:
            check()
        step()
    compat = write_compat_files(match, analysis, out_dir / "compat", video_id=video_id)
    views = [
        OutputFile(path, f"compat/{name}", "application/json", _COMPAT_TITLES[name]) for name, path in compat.items()
    ]
    return [page, pdf, results, players, rallies, *views]
