"""Workspace of the token: its name and its billing rates."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2


class Workspace:
    """A workspace whose token may read the prices once there are some."""

    def __init__(self) -> None:
        """Create a workspace whose token may not read prices."""
        self.rates: dict[str, str] = {}

    async def workspace_name_lookup(self, _: Empty) -> api_pb2.WorkspaceNameLookupResponse:
        """Return the workspace's name."""
        return api_pb2.WorkspaceNameLookupResponse(username="loopback")

    async def workspace_billing_rates(
        self, _: api_pb2.WorkspaceBillingRatesRequest
    ) -> api_pb2.WorkspaceBillingRatesResponse:
        """Return the prices."""
        if not self.rates:
            raise GRPCError(Status.PERMISSION_DENIED, "this token may not read the billing")
        return api_pb2.WorkspaceBillingRatesResponse(rates=self.rates)
