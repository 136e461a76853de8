"""Every measurement says what it needs before it fails for lack of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.rules.tree import ROOT, files

MEASUREMENTS = [path for path in files() if re.fullmatch(r"bench/[a-z_]+\.py", path) and path != "bench/needs.py"]


def test_every_measurement_says_what_it_needs_before_it_imports_it() -> None:
    for path in MEASUREMENTS:
        before, found, _ = (ROOT / path).read_text().partition("\nneeds(")
        assert found, path
        imported = set(re.findall(r"^(?:from|import) (\w+)", before, re.MULTILINE))
        assert imported - set(sys.stdlib_module_names) == {"bench"}, path


def test_one_that_lacks_something_is_skipped_and_says_what_installs_it(tmp_path: Path) -> None:
    """With nothing on the PATH and no packages beside Python's own."""
    code = "import sys; sys.argv = ['bench/sse_peers.py']; "
    code += "from bench.needs import needs; needs('torch', 'nats-server', 'cc')"
    python = Path(sys.executable).resolve()
    done = subprocess.run(
        [python, "-S", "-c", code],
        cwd=ROOT,
        env={"PATH": str(tmp_path), "HOME": os.devnull},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 77, done.stderr
    assert done.stderr.splitlines() == [
        "skipped: sse_peers.py needs torch, nats-server, cc",
        "  hint: make .venv/.dev",
        "  hint: apt-get install gcc",
    ]


def test_make_bench_runs_them_all_and_goes_on_after_a_skipped_one() -> None:
    recipe = re.search(r"^bench:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    assert [path for path in MEASUREMENTS if not re.search(r"^needs\(", (ROOT / path).read_text(), re.MULTILINE)] == []
    assert "grep -l '^needs(' bench/*.py" in recipe[1]
    assert "$$code = 77" in recipe[1]
