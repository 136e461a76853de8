"""FastAPI dependencies of the session routes; app.py sets them in the application's state."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from services.gateway.sessions.latest_progress import LatestSessionProgress
from services.gateway.sessions.ply_download import PlyDownload
from services.gateway.sessions.presenter import SessionPresenter
from services.gateway.sessions.service import SessionService
from services.gateway.telemetry.session_ingest import SessionIngest


async def _session_service(request: Request) -> SessionService:
    service: SessionService = request.app.state.sessions
    return service


async def _session_presenter(request: Request) -> SessionPresenter:
    presenter: SessionPresenter = request.app.state.session_presenter
    return presenter


async def _session_progress(request: Request) -> LatestSessionProgress:
    progress: LatestSessionProgress = request.app.state.session_progress
    return progress


async def _session_ingest(request: Request) -> SessionIngest:
    ingest: SessionIngest = request.app.state.session_ingest
    return ingest


async def _ply_download(request: Request) -> PlyDownload:
    download: PlyDownload = request.app.state.ply_download
    return download


SessionServiceDep = Annotated[SessionService, Depends(_session_service)]
SessionPresenterDep = Annotated[SessionPresenter, Depends(_session_presenter)]
SessionProgressDep = Annotated[LatestSessionProgress, Depends(_session_progress)]
SessionIngestDep = Annotated[SessionIngest, Depends(_session_ingest)]
PlyDownloadDep = Annotated[PlyDownload, Depends(_ply_download)]
