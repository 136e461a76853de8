"""Options of the S3 server that an embedded system and the tests run."""

from typing import Final

S3_SERVER_OPTIONS: Final = (
    *("--vfs-cache-mode", "off"),
    # Browser pages use presigned URLs from any origin; requests without a signature are refused.
    *("--allow-origin", "*"),
    # Otherwise rclone compares each name that is not there to all names of its folder: 13 ms of CPU for each new job
    # once 65,000 have results.
    "--no-unicode-normalization",
)
