# Generated from async_erasures.py by clients/python/generate_sync.py; do not edit.
"""Erasures for blocking programs: of a tenant's data, of a job, of an upload."""

from __future__ import annotations

from saccade_client.api import Api, parsed
from saccade_client.erasure_view import ErasureView
from saccade_client.request_parts import ERASURES_PATH, path_segment, without_none
from saccade_client.transport import run_blocking


class ErasuresClient:
    """Erasures: ``client.erasures``. What ``why`` says is kept in the audit log for good."""

    def __init__(self, api: Api) -> None:
        """Send requests with ``api``."""
        self._api = api

    def tenant(self, tenant: str, *, why: str) -> ErasureView:
        """Erase all data of a tenant; needs a key with the scope ``operate``."""
        path = f"/v1/tenants/{path_segment(tenant)}/data"
        return parsed(ErasureView, run_blocking(self._api.call("DELETE", path, params={"why": why})))

    def job(self, job_id: str, *, why: str, tenant: str | None = None) -> ErasureView:
        """Erase a job that has ended, with its results, its stages and its live session."""
        path, params = f"/v1/jobs/{path_segment(job_id)}/data", without_none({"why": why, "tenant": tenant})
        return parsed(ErasureView, run_blocking(self._api.call("DELETE", path, params=params)))

    def upload(self, upload_id: str, *, why: str, with_jobs: bool = False, tenant: str | None = None) -> ErasureView:
        """Erase an upload; ``with_jobs``: and the jobs that used it, whose events name its file."""
        path, jobs = f"/v1/uploads/{path_segment(upload_id)}/data", "true" if with_jobs else None
        params = without_none({"why": why, "tenant": tenant, "jobs": jobs})
        return parsed(ErasureView, run_blocking(self._api.call("DELETE", path, params=params)))

    def get(self, erasure_id: str) -> ErasureView:
        """Read an erasure, and its report when it is completed."""
        return run_blocking(self._api.get(ErasureView, f"{ERASURES_PATH}/{path_segment(erasure_id)}"))
