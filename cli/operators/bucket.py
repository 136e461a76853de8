"""``saccade bucket``: rules of the bucket, and whether its server does what Saccade needs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import click

from cli.failure import Failure
from cli.operators.bucket_rules import BucketFinding, check, set_up
from cli.output import print_json, print_table
from kit.bucket import Bucket, open_bucket
from kit.settings import S3Settings

_origins = click.option(
    "--origin", "origins", multiple=True, help="Web origin whose pages send files, https://app.example.org."
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON value per line.")


@click.group()
def bucket() -> None:
    """Set up the bucket's rules, and check what it does.

    Its address and credentials come from S3_* or B2_*. See docs/bucket.md.
    """


@bucket.command()
@_origins
@_as_json
def setup(origins: Sequence[str], *, as_json: bool) -> None:
    """Create the bucket and install CORS and lifecycle rules.

    Rules that others have made stay.
    """
    _show(_run(set_up, origins), as_json=as_json)


@bucket.command("check")
@_origins
@_as_json
def check_bucket(origins: Sequence[str], *, as_json: bool) -> None:
    """Check that the bucket does what Saccade needs."""
    _show(_run(check, origins), as_json=as_json)


def _run(
    act: Callable[[Bucket, S3Settings, Sequence[str]], Awaitable[list[BucketFinding]]], origins: Sequence[str]
) -> list[BucketFinding]:
    settings = S3Settings()

    async def acted() -> list[BucketFinding]:
        async with open_bucket(settings) as opened:
            return await act(opened, settings, origins)

    return asyncio.run(acted())


def _show(found: list[BucketFinding], *, as_json: bool) -> None:
    if as_json:
        for finding in found:
            print_json({"check": finding.name, "outcome": finding.outcome, "message": finding.says})
    else:
        print_table(("CHECK", "OUTCOME", ""), [(finding.name, finding.outcome, finding.says) for finding in found])
    failed = [finding.name for finding in found if finding.outcome == "failed"]
    if failed:
        raise Failure(
            f"The bucket fails {len(failed)} checks: {', '.join(failed)}.",
            code="bucket_check_failed",
            hint="See docs/bucket.md.",
        )
