"""The account behind the token: its name, and what its billing tells of prices."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2


class Workspace:
    """A workspace whose token may read the prices once there are some."""

    def __init__(self) -> None:
        """Start with a token that may not."""
        self.rates: dict[str, str] = {}

    async def workspace_name_lookup(self, _: Empty) -> api_pb2.WorkspaceNameLookupResponse:
        """Name it."""
        return api_pb2.WorkspaceNameLookupResponse(username="loopback")

    async def workspace_billing_rates(
        self, _: api_pb2.WorkspaceBillingRatesRequest
    ) -> api_pb2.WorkspaceBillingRatesResponse:
        """Tell the prices."""
        if not self.rates:
            raise GRPCError(Status.PERMISSION_DENIED, "this token may not read the billing")
        return api_pb2.WorkspaceBillingRatesResponse(rates=self.rates)
