"""FastAPI dependencies of the upload routes; app.py sets the objects in the application's state."""

from __future__ import annotations

from typing import Annotated

from kit.http.app_state import from_app_state
from services.gateway.uploads.fetching.url_uploads import UrlUploads
from services.gateway.uploads.presenter import UploadPresenter
from services.gateway.uploads.service import UploadService

UploadServiceDep = Annotated[UploadService, from_app_state("uploads")]
UrlUploadsDep = Annotated[UrlUploads, from_app_state("url_uploads")]
UploadPresenterDep = Annotated[UploadPresenter, from_app_state("upload_presenter")]
