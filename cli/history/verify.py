"""``saccade events verify``: whether a file of events is whole, and what is in it."""

from __future__ import annotations

from pathlib import Path

import click

from cli.history.files import described, read_whole, span
from cli.output import print_json, print_line


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def verify(file: Path, *, as_json: bool) -> None:
    """Verify FILE, exported or a segment of the archive.

    Shows what is in it; the exit code is 1 if it is damaged.
    """
    segment, data = read_whole(file)
    manifest = segment.manifest
    found = described(data, manifest)
    if as_json:
        print_json({"file": str(file)} | found)
        return
    exported = manifest.export
    kind = "a segment of the archive" if exported is None else "redacted" if exported.redacted else "not redacted"
    print_line(f"{span(manifest)}, {kind}")
    print_line(f"sequences {manifest.first} to {manifest.last} of epoch {manifest.epoch}")
    for title, counts in (("tenant", manifest.tenants), ("type", manifest.types)):
        for name, number in counts.items():
            print_line(f"{title} {name}: {number}")
    print_line(f"Whole: {found['bytes']} bytes, SHA-256 {found['sha256']}")
