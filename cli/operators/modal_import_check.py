"""Child process that starts a worker's function on Modal once, in an app that ends with it, to import its modules.

The deployed version of the worker goes on meanwhile: an image that lacks something is found before it gets calls.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Final

from cli.settings import ROOT, child_environment
from modal_workers.runtime.import_check import CHECK

#: Function of every worker's app.
_FUNCTION: Final = "run"


def check_imports(
    package: str, workload: str, variables: Mapping[str, str], show: Callable[[str], None], *, timeout_s: int
) -> tuple[int, str]:
    """Import a worker's modules in its image on Modal; show the output, and return the exit code and the output.

    ``timeout_s`` begins when the image is built: it covers the wait for a container and the imports.
    """
    lines = []
    with subprocess.Popen(
        [sys.executable, "-m", "cli.operators.modal_import_check", package, workload, str(timeout_s)],
        cwd=ROOT,
        env=child_environment() | dict(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout
        for line in process.stdout:
            lines.append(line)
            show(line.rstrip("\n"))
    return process.returncode, "".join(lines)


def main(package: str, workload: str, timeout_s: str) -> int:
    """Return 0 if the modules can be imported; otherwise print why not."""
    try:
        module = importlib.import_module(f"{package}.app")
        function = getattr(module, _FUNCTION)
        with module.app.run():
            function.spawn({CHECK: workload}).get(timeout=float(timeout_s))
    except TimeoutError:
        print(f"TimeoutError: no container of {workload} has imported its modules within {timeout_s} s")
        return 1
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the app, Modal or the worker's modules raise
        print(f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
