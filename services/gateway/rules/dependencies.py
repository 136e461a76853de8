"""FastAPI dependencies of the rule routes; app.py sets the objects in the application's state."""

from __future__ import annotations

from typing import Annotated

from kit.http.app_state import from_app_state
from services.gateway.rules.presenter import RulePresenter
from services.gateway.rules.service import RuleService
from services.gateway.rules.trial import RuleTrials

RuleServiceDep = Annotated[RuleService, from_app_state("rules")]
RulePresenterDep = Annotated[RulePresenter, from_app_state("rule_presenter")]
RuleTrialsDep = Annotated[RuleTrials, from_app_state("rule_trials")]
