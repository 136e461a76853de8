"""Names of GPUs as Modal rents them, and the ladder that a workload climbs: where it begins, what is above."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from contracts.errors import ErrorCode, SaccadeError
from contracts.prices import ALIASES, PRICES, price_usd_per_s

Environment = Literal["development", "production"]

#: Every GPU there is a price for, the cheapest first. Source of the names: https://modal.com/docs/guide/gpu
GPUS: Final = tuple(sorted((name for name in PRICES if name not in ("local", "cpu")), key=price_usd_per_s))

#: Where a ladder begins, unless it has no rung so cheap.
SMALLEST_GPU: Final[dict[Environment, str]] = {"development": "T4", "production": "A10"}


def gpu_name(name: str) -> str:
    """Give the name that Modal and the price table know a GPU by; ``A10G`` is an ``A10``. Modal checks none itself.

    Raises:
        SaccadeError: INVALID_PARAMETER, for any other.
    """
    known = {gpu.upper(): gpu for gpu in GPUS} | {alias.upper(): gpu for alias, gpu in ALIASES.items()}
    found = known.get(name.strip().upper())
    if found is None:
        raise SaccadeError(
            ErrorCode.INVALID_PARAMETER,
            f"There is no GPU {name!r}.",
            hint=f"There are: {', '.join(GPUS)}.",
            errors=[{"detail": f"There is no GPU {name!r}.", "pointer": "#/gpu"}],
        )
    return found


def gpu_ladder(gpus: Sequence[str], environment: Environment) -> tuple[str, ...]:
    """Give the rungs of a workload's ladder from where this environment begins; the last alone if all are cheaper."""
    rungs = tuple(gpu_name(gpu) for gpu in gpus)
    least = price_usd_per_s(SMALLEST_GPU[environment])
    for number, gpu in enumerate(rungs):
        if price_usd_per_s(gpu) >= least:
            return rungs[number:]
    return rungs[-1:]
