"""CPU time of the clients' event stream parsers: one long line, and many short ones, in reads of 1 kB and of one byte.

    python bench/sse_parsers.py --mb 1 2 4

Linear time: twice the bytes take twice the time, and a long line costs about what short lines do.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

from bench.needs import needs

needs("saccade_client", "node")

from saccade_client.sse import SseParser

_KB: Final = 1000
_MODULE: Final = Path(__file__).parents[1] / "clients" / "js" / "saccade.js"
#: Lines of a stream: one for all bytes, or one for each kilobyte.
_LINES: Final = ("one line", "lines of 1 kB")
_READS: Final = (_KB, 1)
_SCRIPT: Final = """
const { BlockParser } = await import(process.argv[1]);
const [lines, read, bytes] = JSON.parse(process.argv[2]);
const piece = new Uint8Array(read).fill(97);
const end = new TextEncoder().encode("\\n");
const begin = process.cpuUsage();
const parser = new BlockParser();
for (let at = 0; at < bytes; at += read) {
  parser.push(piece);
  if (lines > 1 && (at + read) % 1000 === 0) parser.push(end);
}
parser.push(end);
const { user, system } = process.cpuUsage(begin);
console.log((user + system) / 1e6);
"""


def python_s(lines: str, read_bytes: int, total_bytes: int) -> float:
    """Return the CPU seconds of the Python clients' parser."""
    piece = b"a" * read_bytes
    parser = SseParser()
    begin_s = time.process_time()
    for at in range(read_bytes, total_bytes + 1, read_bytes):
        parser.push(piece)
        if lines != _LINES[0] and at % _KB == 0:
            parser.push(b"\n")
    parser.push(b"\n")
    return time.process_time() - begin_s


def javascript_s(lines: str, read_bytes: int, total_bytes: int) -> float:
    """Return the CPU seconds of the JavaScript client's parser in Node, without the start of Node."""
    given = json.dumps([1 if lines == _LINES[0] else 2, read_bytes, total_bytes])
    node = shutil.which("node")
    assert node
    command = [node, "--input-type=module", "-e", _SCRIPT, _MODULE.as_uri(), given]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout)


def main() -> None:
    """Print a table: the least CPU time of some runs, and its ratio to that of the size before."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--mb", type=float, nargs="+", default=[1, 2, 4])
    arguments.add_argument("--runs", type=int, default=3)
    wanted = arguments.parse_args()
    print("| parser | stream | read bytes | " + " | ".join(f"{mb:g} MB ms" for mb in wanted.mb) + " | ratios |")
    print("|" + "---|" * (4 + len(wanted.mb)))
    for name, measure in (("Python", python_s), ("JavaScript", javascript_s)):
        for lines in _LINES:
            for read_bytes in _READS:
                took_s = [
                    min(measure(lines, read_bytes, round(mb * 1e6)) for _ in range(wanted.runs)) for mb in wanted.mb
                ]
                ratios = ", ".join(f"{after / before:.1f}" for before, after in itertools.pairwise(took_s))
                figures = " | ".join(f"{seconds * 1000:.1f}" for seconds in took_s)
                print(f"| {name} | {lines} | {read_bytes} | {figures} | {ratios} |")


if __name__ == "__main__":
    main()
