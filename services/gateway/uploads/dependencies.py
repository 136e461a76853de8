"""FastAPI dependencies of the upload routes; app.py sets them in the application's state."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from services.gateway.uploads.presenter import UploadPresenter
from services.gateway.uploads.service import UploadService


async def _upload_service(request: Request) -> UploadService:
    service: UploadService = request.app.state.uploads
    return service


async def _upload_presenter(request: Request) -> UploadPresenter:
    presenter: UploadPresenter = request.app.state.upload_presenter
    return presenter


UploadServiceDep = Annotated[UploadService, Depends(_upload_service)]
UploadPresenterDep = Annotated[UploadPresenter, Depends(_upload_presenter)]
