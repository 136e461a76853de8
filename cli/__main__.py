"""Entry point of the ``saccade`` command: finds the subcommand, reports failures in one line with an exit code."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from typing import Any, Final

if sys.version_info < (3, 11):  # noqa: UP036 - a checkout can be run with any Python
    sys.exit("error: Saccade needs Python 3.11 or newer (python_too_old)\n  hint: python3.11 -m venv .venv")

import click
from pydantic import ValidationError

from cli.failure import INTERRUPTED, REFUSED, Failure
from cli.output import print_failure, print_line, print_note
from contracts.errors import SaccadeError

#: Module of each command; the function is named as the command, or as ``_FUNCTIONS`` tells.
_COMMANDS: Final = {
    "up": "embedded.up",
    "demo": "demo.laps",
    "submit": "jobs.submit",
    "jobs": "jobs.jobs",
    "job": "jobs.jobs",
    "open": "jobs.open",
    "cancel": "jobs.cancel",
    "retry": "jobs.retry",
    "events": "jobs.events",
    "sessions": "sessions.sessions",
    "calibrate": "calibrate.calibrate",
    "artifacts": "jobs.artifacts",
    "webhooks": "operators.webhooks",
    "workloads": "jobs.workloads",
    "key": "operators.key",
    "modal": "operators.modal",
}

_FUNCTIONS: Final = {"open": "open_report"}
#: Commands that call no server.
_WITHOUT_SERVER: Final = frozenset({"up", "key", "modal"})
_SYSTEM_HINT: Final = "Check the path, its permissions and the free space on its disk."


class _Commands(click.Group):
    """Command group that imports a command's module when it is called, so that each command starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of the commands, in the order of first use."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Load a command."""
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"cli.{_COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, _FUNCTIONS.get(cmd_name, cmd_name))
        return command


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        try:
            number = importlib.metadata.version("saccade-server")
        except importlib.metadata.PackageNotFoundError:
            number = "not installed, run from a checkout"
        print_line(f"saccade {number}")
        ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
@click.option("--url", help="Address of the server, for the commands that call one; also after the command.")
@click.pass_context
def saccade(context: click.Context, url: str | None) -> None:
    """Turn video, photos and robot streams into results, with an event for every step.

    Start with `saccade demo`, or `saccade up` and then `saccade submit lap_compare A.mp4 B.mp4 --watch`.
    """
    if url and context.invoked_subcommand in _WITHOUT_SERVER:
        raise click.UsageError(f"--url names a running server, which {context.invoked_subcommand} does not call.")


def _system_error_text(error: OSError) -> str:
    """Return the reason of a system error and the path it concerns."""
    reason = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {reason}" if error.filename else reason


def main() -> None:
    """Run the command and exit: 0 success, 1 refused or failed, 2 wrong usage, 130 Ctrl-C."""
    as_json = "--json" in sys.argv
    try:
        code: Any = saccade.main(standalone_mode=False)
    except click.UsageError as error:
        if as_json:
            print_failure(
                Failure(error.format_message(), code="usage", hint="--help shows the arguments."), as_json=True
            )
        else:
            error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print_note("Stopped.")
        code = INTERRUPTED
    except Failure as failure:
        print_failure(failure, as_json=as_json)
        code = failure.exit_code
    except SaccadeError as error:
        print_failure(Failure(error.message, code=error.code, hint=error.hint), as_json=as_json)
        code = REFUSED
    except ValidationError as error:
        from kit.settings import invalid_settings  # noqa: PLC0415 - the command line starts without the kit

        print_failure(Failure(f"{invalid_settings(error)}.", code="setting_invalid"), as_json=as_json)
        code = REFUSED
    except BrokenPipeError:
        code = REFUSED
    except OSError as error:
        print_failure(Failure(_system_error_text(error), code="file_system", hint=_SYSTEM_HINT), as_json=as_json)
        code = REFUSED
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
