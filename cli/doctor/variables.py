"""Names of environment variables that no setting has, with the one that was probably meant. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Final

from cli.doctor.report_line import ReportLine, fail, warn

#: Prefixes of variables that are ours alone; others share S3_, B2_ and NATS_.
_OURS: Final = ("SACCADE_", "GATEWAY_", "DISPATCHER_", "NOTIFIER_", "ARCHIVE_", "BUCKET_PROXY_")
_OF_SERVICES: Final = ("GATEWAY_", "DISPATCHER_", "NOTIFIER_", "ARCHIVE_")
_SHARED: Final = ("NATS_", "S3_", "B2_", "R2_", "NERF_", "VISION_", "MODAL_")
#: What a container engine sets for each service beside a container.
_LINKED: Final = re.compile(r"_SERVICE_(HOST|PORT)(_|$)|_PORT_\d+_(TCP|UDP)")
_CLOSE, _CLOSER = 0.75, 0.88


def judge_names(given: Iterable[str], known: Iterable[str]) -> list[ReportLine]:
    """Return the variables that are probably misspelt, and those of ours that nothing reads."""
    known = sorted(set(known))
    of_ours = [name for name in known if name.startswith((*_OURS, *_SHARED))]
    return [finding for name in sorted(set(given) - set(known)) if (finding := _judge(name, of_ours)) is not None]


def _judge(name: str, known: list[str]) -> ReportLine | None:
    if _LINKED.search(name):
        return None
    ours = name.startswith(_OURS)
    # Among names of the same prefix every name is a candidate; elsewhere only what differs by a letter or two.
    meant = difflib.get_close_matches(name, known, 1, _CLOSE if ours else _CLOSER)
    if meant:
        return fail("variable", f"{name} is no setting, so it has no effect", f"Did you mean {meant[0]}?")
    if ours:
        return warn("variable", f"{name} is no setting, so it has no effect", "Remove it: docs/settings.md names all.")
    return None


def judge_passed_on(given: Iterable[str], known: Iterable[str], passed: Iterable[str]) -> list[ReportLine]:
    """Return settings in an environment file that the compose file passes on to no container."""
    lost = sorted(name for name in (set(given) & set(known)) - set(passed) if name.startswith(_OF_SERVICES))
    fix = "Add it to the service's environment in docker-compose.yml."
    return [
        warn("variable", f"{name} is a setting that docker-compose.yml passes on to no service", fix) for name in lost
    ]


def judge_secrets(given: Mapping[str, str], public: Mapping[str, str]) -> list[ReportLine]:
    """Return the secrets that are placeholders, or the published ones of development on a server that others reach."""
    placeholders = sorted(name for name, value in given.items() if value.startswith("change-me"))
    published = sorted(name for name, value in given.items() if value.startswith("development-only"))
    found = []
    fix = "Replace each by a long random value, `openssl rand -hex 24` prints one, and restart the services."
    if placeholders:
        says = f"still the placeholder of deploy/example.env: {', '.join(placeholders)}"
        found.append(fail("secrets", says, fix))
    if published and public:
        variable, host = next(iter(public.items()))
        says = f"{variable} names {host}, and these are the published development values: {', '.join(published)}"
        found.append(fail("secrets", says, fix))
    elif published:
        says = f"published development values: {', '.join(published)}; only this machine reaches the server"
        found.append(warn("secrets", says, "Replace them before other machines can reach the ports."))
    return found
