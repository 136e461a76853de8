"""docs/quotas.md has the table of quotas as it is in contracts/quotas.py."""

from __future__ import annotations

from contracts.limits import GIB, MIB
from contracts.quotas import QUOTAS, Quota, QuotaName
from tests.rules.tree import ROOT

_PERIODS = {1.0: "second", 60.0: "minute", 86_400.0: "day"}


def row(quota: Quota) -> str:
    amount = f"{quota.default:,}"
    if quota.name.endswith("_bytes"):
        amount = f"{quota.default // GIB:,} GiB" if quota.default >= GIB else f"{quota.default // MIB:,} MiB"
    if quota.period_s is not None:
        amount += f" a {_PERIODS[quota.period_s]}"
        if quota.burst_periods > 1:
            amount += f" ({round(quota.default * quota.burst_periods):,} at once)"
    is_rate = quota.period_s is not None
    code = "rate_limited" if is_rate else quota.code
    answer = "none: its oldest go" if quota.deletes_oldest else f"`{code}`"
    if quota.name == QuotaName.SOCKET_MESSAGES:
        answer = "none: they wait"
    whose = "all together" if quota.exact and not is_rate else "each process"
    return f"| `{quota.name}` | {amount} | {quota.counts} | {answer} | {whose} |"


def test_the_page_has_the_table() -> None:
    rows = [line for line in (ROOT / "docs" / "quotas.md").read_text().splitlines() if line.startswith("| `")]
    assert rows == [row(quota) for quota in QUOTAS.values()]
