"""Child process that runs commands of Modal's command line, ``python -m modal``, after one import of Modal's client.

Each line of standard input is a JSON list of arguments. A command's output is followed by a line with its exit code.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import traceback
from pathlib import Path
from typing import Final

#: Begins the line after a command's output; not part of any text.
END: Final = "\x1e"


def main() -> None:
    """Run the commands of standard input until it is closed."""
    with os.fdopen(os.dup(0), encoding="utf-8") as commands:
        # No command may read the lines that are meant for this loop.
        with Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        for line in commands:
            sys.argv[:] = ["modal", *json.loads(line)]
            try:
                runpy.run_module("modal", run_name="__main__", alter_sys=True)
                code = 0
            except SystemExit as ended:
                code = exit_code(ended)
            except Exception:  # noqa: BLE001 - as the interpreter does at the end of a process
                traceback.print_exc()
                code = 1
            sys.stderr.flush()
            print(f"{END}{code}", flush=True)


def exit_code(ended: SystemExit) -> int:
    """Return the exit code of a process that this would have ended."""
    if ended.code is None or isinstance(ended.code, int):
        return ended.code or 0
    print(ended.code, file=sys.stderr)
    return 1


if __name__ == "__main__":
    main()
