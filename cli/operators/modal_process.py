"""Modal's command line in a child process that serves several commands: its import takes longer than most of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from cli.operators.modal_commands import END
from cli.settings import ROOT, child_environment

#: At most so many of the last lines are searched for the reason of a failure.
_KEPT_LINES: Final = 40
_END_S: Final = 5.0


class ModalProcess:
    """Child process that runs Modal's commands; a new one follows one that a command has ended."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        """Prepare a process with these variables in addition to ours; the first command starts it."""
        self._variables = dict(variables)
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with process:
            assert process.stdin
            process.stdin.close()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()

    def run(self, arguments: Sequence[str], show: Callable[[str], None]) -> tuple[int, str]:
        """Run a command, show its output line by line, and return its exit code and the last lines."""
        process = self._process = self._process or self._start()
        assert process.stdin
        assert process.stdout
        last: deque[str] = deque(maxlen=_KEPT_LINES)
        process.stdin.write(json.dumps(list(arguments)) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            if line.startswith(END):
                return int(line[len(END) :]), "".join(last)
            last.append(line)
            show(line.rstrip("\n"))
        self._process = None
        with process:
            code = process.wait()
        return code or 1, "".join(last)

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "cli.operators.modal_commands"],
            cwd=ROOT,
            env=child_environment() | self._variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
