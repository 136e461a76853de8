"""GPU ladder of a workload: its GPUs from the smallest that the environment allows, to the largest.

A workload lists its GPUs in ``Compute.gpus`` of its ``spec.py``, cheapest first; ``SMALLEST_GPU`` removes those below
the environment's minimum. An attempt starts on the first of the rest; the next ones follow when a GPU is not available
or has too little memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from contracts.errors import ErrorCode, SaccadeError
from contracts.prices import ALIASES, PRICES, price_usd_per_s

Environment = Literal["development", "production"]

#: Every GPU with a price, cheapest first. Source of the names: https://modal.com/docs/guide/gpu
GPUS: Final = tuple(sorted((name for name in PRICES if name not in ("local", "cpu")), key=price_usd_per_s))

#: Name of each GPU by its name, or an alias of it, in capitals.
_KNOWN: Final = {gpu.upper(): gpu for gpu in GPUS} | {alias.upper(): gpu for alias, gpu in ALIASES.items()}

#: Smallest GPU that each environment uses.
SMALLEST_GPU: Final[dict[Environment, str]] = {"development": "T4", "production": "A10"}


def gpu_name(name: str) -> str:
    """Return the name of a GPU in Modal's API and the price table; ``A10G`` is an ``A10``. Modal does not check names.

    Raises:
        SaccadeError: INVALID_PARAMETER, for an unknown GPU.
    """
    found = _KNOWN.get(name.strip().upper())
    if found is None:
        raise SaccadeError(
            ErrorCode.INVALID_PARAMETER,
            f"There is no GPU {name!r}.",
            hint=f"Available GPUs: {', '.join(GPUS)}.",
            errors=[{"detail": f"There is no GPU {name!r}.", "pointer": "#/gpu"}],
        )
    return found


def gpu_ladder(gpus: Sequence[str], environment: Environment) -> tuple[str, ...]:
    """Return a workload's GPUs from the environment's smallest one; only the last if all are smaller.

    Raises:
        SaccadeError: INVALID_PARAMETER, for an unknown GPU.
    """
    rungs = tuple(gpu_name(gpu) for gpu in gpus)
    minimum = price_usd_per_s(SMALLEST_GPU[environment])
    for number, gpu in enumerate(rungs):
        if price_usd_per_s(gpu) >= minimum:
            return rungs[number:]
    return rungs[-1:]


def ladder_from(first: Sequence[str], ladder: Sequence[str]) -> tuple[str, ...]:
    """Return ``first``, and after it the devices of a ladder that are more expensive than the last of it.

    Raises:
        SaccadeError: INTERNAL, for a device without a price.
    """
    above = price_usd_per_s(first[-1])
    return (*first, *(device for device in ladder if device not in first and price_usd_per_s(device) > above))
