"""State of a running dispatcher's fold: captured in one step of the event loop, and restored before its first event."""

from __future__ import annotations

from dataclasses import dataclass

from services.dispatcher.budgets.tenant_budgets import TenantBudgets
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs
from services.dispatcher.rules.group_book import SavedGroups
from services.dispatcher.rules.on_rule import RuleFold
from services.dispatcher.snapshots.fold_state import FoldState


@dataclass(frozen=True)
class DispatcherFold:
    """Everything that events are folded into."""

    jobs: UnfinishedJobs
    rules: RuleFold
    budgets: TenantBudgets

    def capture(self) -> FoldState:
        """Return the state. Its values do not change any more: what the fold changes in place is copied."""
        groups = self.rules.groups.saved()
        return FoldState(
            job=tuple(self.jobs),
            ended_stage_job=tuple(self.jobs.ended_stage_jobs),
            unloaded=tuple(self.jobs.unloaded.items()),
            rule=tuple(self.rules.rules),
            group=groups.groups,
            group_upload=groups.uploads,
            last_closed=groups.last_closed,
            failed_upload=groups.failed,
            artifact=self.rules.artifacts.saved(),
            completed_upload=(self.rules.progress.newest,),
            budget=tuple(self.budgets.budgets.values()),
            account=self.budgets.saved_accounts(),
        )

    def restore(self, state: FoldState) -> None:
        """Go on from a state; nothing may have been folded yet."""
        self.jobs.restore(state.job, state.ended_stage_job, dict(state.unloaded))
        self.rules.rules.restore(state.rule)
        saved = SavedGroups(state.group, state.group_upload, state.last_closed, state.failed_upload)
        self.rules.groups.restore(saved)
        self.rules.artifacts.restore(state.artifact)
        self.rules.progress.newest = max(state.completed_upload, default=0)
        self.budgets.restore(state.budget, state.account)
