"""Settings of a replay: those of a dispatcher that decide about jobs, by the names that ``--set`` takes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Final, cast

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from contracts.budget import BudgetLimits
from contracts.errors import ErrorCode, SaccadeError
from contracts.gpu_ladder import Environment
from contracts.ids import TENANT_PATTERN
from contracts.prices import PRICES
from services.dispatcher.settings import DECIDING, BudgetSettings, DispatcherSettings, QueueSettings

_DISPATCHER: Final = {name: DispatcherSettings.model_fields[name] for name in DECIDING}
_QUEUE: Final = dict(QueueSettings.model_fields)
_BUDGET: Final = {f"budget.{name}": info for name, info in BudgetSettings.model_fields.items()}
_FIELDS: Final[dict[str, FieldInfo]] = {**_DISPATCHER, **_QUEUE, **_BUDGET}
_ENVIRONMENT: Final = "environment"
#: Limits that a tenant has besides: ``budget.acme.daily_usd``.
_TENANT_LIMITS: Final = ("daily_usd", "monthly_usd")


@dataclass(frozen=True)
class ReplaySettings:
    """Explicit values by name; every other setting has today's default.

    What follows from them is worked out once: each decision asks for it, and validation takes milliseconds.
    """

    values: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def dispatcher(self) -> DispatcherSettings:
        """Return the settings of the dispatcher."""
        queue = QueueSettings(**{name: value for name, value in self.values.items() if name in _QUEUE})
        own = {name: value for name, value in self.values.items() if name in _DISPATCHER}
        return DispatcherSettings(**own, queue=queue)

    @cached_property
    def operator_limits(self) -> BudgetLimits:
        """Return the budget limits of every tenant."""
        given = {name.partition(".")[2]: value for name, value in self.values.items() if name in _BUDGET}
        return BudgetSettings(**given).limits

    @cached_property
    def tenant_limits(self) -> dict[str, BudgetLimits]:
        """Return the limits that tenants have instead of their own budgets."""
        found: dict[str, dict[str, float | None]] = {}
        for name, value in self.values.items():
            if name.startswith("budget.") and name not in _BUDGET:
                _, tenant, limit = name.split(".")
                found.setdefault(tenant, {})[limit] = value
        return {
            tenant: BudgetLimits(limits.get("daily_usd"), limits.get("monthly_usd")) for tenant, limits in found.items()
        }

    @property
    def environment(self) -> Environment:
        """Return the environment, which selects the GPU ladder."""
        return cast("Environment", self.values.get(_ENVIRONMENT, "development"))

    @cached_property
    def account_prices(self) -> dict[str, float]:
        """Return prices that hold instead of the recorded ones, USD per second by device."""
        return {name.partition(".")[2]: value for name, value in self.values.items() if name.startswith("price.")}

    def changed(self, values: Mapping[str, Any]) -> ReplaySettings:
        """Return these settings with other values of some."""
        return ReplaySettings({**self.values, **values})


def names() -> list[str]:
    """Return every name that can be set, in order."""
    tenant = [f"budget.<tenant>.{limit}" for limit in _TENANT_LIMITS]
    return sorted([*_FIELDS, _ENVIRONMENT, *tenant, "price.<device>"])


def parsed(assignments: Mapping[str, str]) -> dict[str, Any]:
    """Check values given as text, such as ``{"slots": "8"}``, and return them.

    Raises:
        SaccadeError: INVALID_PARAMETER, for an unknown name or an impossible value.
    """
    return {name: _parsed(name, text) for name, text in assignments.items()}


def _parsed(name: str, text: str) -> Any:
    adapter = _adapter(name)
    try:
        return adapter.validate_python(None) if text.lower() in ("none", "") else adapter.validate_strings(text)
    except ValidationError as error:
        raise _invalid(f"{name}={text} is not possible: {error.errors()[0]['msg']}.") from None


def _adapter(name: str) -> TypeAdapter[Any]:
    if info := _FIELDS.get(name):
        return TypeAdapter(_annotated(info))
    if name == _ENVIRONMENT:
        return TypeAdapter(Environment)
    first, _, rest = name.partition(".")
    tenant, _, limit = rest.rpartition(".")
    if first == "budget" and limit in _TENANT_LIMITS:
        _check_tenant(tenant)
        return TypeAdapter(_annotated(BudgetSettings.model_fields[limit]))
    if first == "price" and rest in PRICES:
        return TypeAdapter(_annotated(BudgetSettings.model_fields["daily_usd"]))
    near = difflib.get_close_matches(name, names(), n=1)
    meant = f" Did you mean {near[0]}?" if near else ""
    raise _invalid(f"There is no setting {name!r}.{meant}", f"There are: {', '.join(names())}.")


def _check_tenant(tenant: str) -> None:
    if not re.fullmatch(TENANT_PATTERN, tenant):
        raise _invalid(f"{tenant!r} is no tenant.")


def _annotated(info: FieldInfo) -> Any:
    return Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation


def _invalid(message: str, hint: str = "") -> SaccadeError:
    return SaccadeError(
        ErrorCode.INVALID_PARAMETER, message, hint=hint or "`saccade whatif --settings` lists what can be set."
    )
