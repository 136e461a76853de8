"""Entry point of the ``saccade`` command: finds the subcommand, reports failures in one line with an exit code."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from dataclasses import dataclass
from typing import Any, Final

if sys.version_info < (3, 11):  # noqa: UP036 - a checkout can be run with any Python
    sys.exit("error: Saccade needs Python 3.11 or newer (python_too_old)\n  hint: python3.11 -m venv .venv")

if importlib.util.find_spec("click") is None or importlib.util.find_spec("pydantic") is None:
    from cli.doctor import before_install

    sys.exit(before_install.main(sys.argv[1:]))

import click
from pydantic import ValidationError

from cli.failure import INTERRUPTED, REFUSED, USAGE, Failure
from cli.output import print_failure, print_line, print_note
from contracts.errors import SaccadeError


@dataclass(frozen=True)
class _Entry:
    """Command of the list."""

    #: Module below ``cli``.
    module: str
    #: The same as the command's own short help: ``saccade --help`` imports no command.
    help: str
    #: Function, if its name is not the command's.
    function: str | None = None


_COMMANDS: Final = {
    "up": _Entry("embedded.up", "Run Saccade on this machine until Ctrl-C."),
    "demo": _Entry("demo.laps", "Compare two rendered laps."),
    "submit": _Entry("jobs.submit", "Upload files and submit a job."),
    "upload": _Entry("uploads.upload", "Upload files, or have URLs fetched."),
    "rules": _Entry("rules.rules", "Start jobs by uploads."),
    "watch": _Entry("uploads.watch", "Upload what appears in a folder."),
    "jobs": _Entry("jobs.jobs", "List your jobs, newest first."),
    "job": _Entry("jobs.jobs", "Show one job."),
    "open": _Entry("jobs.open", "Open a job's report in a browser.", "open_report"),
    "cancel": _Entry("jobs.cancel", "Cancel a job."),
    "retry": _Entry("jobs.retry", "Run a failed or cancelled job again."),
    "events": _Entry("jobs.events", "Show past events and follow new ones."),
    "replay": _Entry("replays.replay", "Send events of the past again."),
    "whatif": _Entry("whatif.whatif", "Compare past decisions with those of today's dispatcher."),
    "sessions": _Entry("sessions.sessions", "List or control live sessions."),
    "calibrate": _Entry("calibrate.calibrate", "Calibrate the camera on a gripper."),
    "artifacts": _Entry("jobs.artifacts", "List or download a job's files."),
    "webhooks": _Entry("operators.webhooks", "Send signed events to your own server."),
    "budget": _Entry("operators.budget", "Show, set or remove your budget."),
    "workloads": _Entry("jobs.workloads", "List the server's workloads."),
    "key": _Entry("operators.key", "Create an API key."),
    "doctor": _Entry("doctor.doctor", "Check bus, bucket, services, settings and this machine."),
    "status": _Entry("operators.dispatch", "Show what is held back, what runs and what waits."),
    "drain": _Entry("operators.dispatch", "Launch nothing new; running jobs go on."),
    "pause": _Entry("operators.dispatch", "Keep a workload's jobs queued; running ones go on."),
    "resume": _Entry("operators.dispatch", "Launch jobs again after drain or pause."),
    "refold": _Entry("operators.dispatch", "Fold a job from its history again."),
    "lease": _Entry("operators.dispatch", "Hand over to another dispatcher."),
    "deadletters": _Entry("operators.deadletters", "List what was given up: events, deliveries, jobs."),
    "audit": _Entry("operators.audit", "Show who had what done, and why."),
    "erase": _Entry("operators.erase", "Erase a tenant's data, a job or an upload."),
    "backup": _Entry("backups.backup", "Copy streams and bucket into a new folder."),
    "restore": _Entry("backups.restore", "Make a new system of a backup."),
    "bucket": _Entry("operators.bucket", "Set up the bucket's rules, and check what it does."),
    "modal": _Entry("operators.modal", "Deploy workers on Modal."),
}

#: Commands that are found and not listed: events' letters by NATS, when no gateway answers.
_UNLISTED: Final = {
    "dead-letters": _Entry("operators.dead_letters_by_nats", "List events' letters by NATS.", "dead_letters")
}
#: Commands that call no server.
_WITHOUT_SERVER: Final = frozenset(
    {
        "up",
        "key",
        "bucket",
        "modal",
        "status",
        "drain",
        "pause",
        "resume",
        "refold",
        "lease",
        "dead-letters",
        "audit",
        "backup",
        "restore",
        "whatif",
    }
)
_UTF8_HINT: Final = "Write it in UTF-8, or rename the file."
_SYSTEM_HINT: Final = "Check the path, its permissions and the free space on its disk."


class _Commands(click.Group):
    """Command group that imports a command's module when it is called, so that each command starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of the commands, in the order of first use."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Load a command."""
        entry = _COMMANDS.get(cmd_name) or _UNLISTED.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f"cli.{entry.module}")
        command: click.Command = getattr(module, entry.function or cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in _COMMANDS.items()])


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
    except UnicodeEncodeError as error:
        text = error.object.encode(errors="backslashreplace").decode()
        print_failure(Failure(f"{text} is not UTF-8.", code="not_utf8", hint=_UTF8_HINT), as_json=as_json)
        code = USAGE
    except OSError as error:
        print_failure(Failure(_system_error_text(error), code="file_system", hint=_SYSTEM_HINT), as_json=as_json)
        code = REFUSED
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
