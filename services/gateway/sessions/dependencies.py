"""FastAPI dependencies of the session routes; app.py sets the objects in the application's state."""

from __future__ import annotations

from typing import Annotated

from kit.http.app_state import from_app_state
from services.gateway.sessions.early_sessions import EarlySessions
from services.gateway.sessions.latest_progress import LatestSessionProgress
from services.gateway.sessions.past_sessions import PastSessions
from services.gateway.sessions.ply_download import PlyDownload
from services.gateway.sessions.presenter import SessionPresenter
from services.gateway.sessions.service import SessionService
from services.gateway.telemetry.session_ingest import SessionIngest

SessionServiceDep = Annotated[SessionService, from_app_state("sessions")]
SessionPresenterDep = Annotated[SessionPresenter, from_app_state("session_presenter")]
SessionProgressDep = Annotated[LatestSessionProgress, from_app_state("session_progress")]
SessionIngestDep = Annotated[SessionIngest, from_app_state("session_ingest")]
PlyDownloadDep = Annotated[PlyDownload, from_app_state("ply_download")]
EarlySessionsDep = Annotated[EarlySessions, from_app_state("early_sessions")]
PastSessionsDep = Annotated[PastSessions, from_app_state("past_sessions")]
