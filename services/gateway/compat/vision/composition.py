"""Objects behind the routes of the replaced vision system, built from those of the gateway."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastapi import FastAPI
from nats.aio.client import Client
from starlette.websockets import WebSocket

from contracts.caller_account import CallerAccount
from contracts.errors import SaccadeError
from kit.auth.api_keys import AuthSettings, Principal
from kit.network.address_guard import AddressGuard
from kit.network.guarded_post import GuardedPost
from kit.settings import WebhookAddressSettings
from services.gateway.compat.replaced_paths import SYSTEMS
from services.gateway.compat.vision.application import VisionRoutes
from services.gateway.compat.vision.caller_account import caller_account
from services.gateway.compat.vision.captions import Captions
from services.gateway.compat.vision.finished_chunks import FinishedChunks
from services.gateway.compat.vision.frame_shrink_process import FrameShrinker
from services.gateway.compat.vision.poke import Poke
from services.gateway.compat.vision.stream_session import StreamSession
from services.gateway.compat.vision.stream_socket import StreamSocket
from services.gateway.settings import CompatVisionSettings


def mount_vision(
    app: FastAPI, client: Client, auth: AuthSettings, cause_of: Callable[[SaccadeError], SaccadeError]
) -> None:
    """Mount the routes, which use the objects in the application's state."""
    state, settings, addresses = app.state, CompatVisionSettings(), WebhookAddressSettings()
    shrinker = FrameShrinker()
    guard = AddressGuard.allowing(addresses.allowed_networks(auth))
    post = GuardedPost(guard, https_only=addresses.https_only(auth))

    def account_of(headers: Mapping[str, str]) -> CallerAccount | None:
        return caller_account(headers) if settings.caller_accounts else None

    def new_socket(socket: WebSocket, principal: Principal, account: CallerAccount | None) -> StreamSocket:
        def new_session(accepted_at_s: float, chunks: FinishedChunks) -> StreamSession:
            return StreamSession(
                principal,
                accepted_at_s,
                chunks,
                sessions=state.sessions,
                ingest=state.session_ingest,
                words=state.session_words,
                shrinker=shrinker,
                settings=settings,
                account=account,
            )

        quotas, tenant = state.authenticator.quotas, principal.tenant
        return StreamSocket(socket, settings.buffer_frames, new_session, quotas=quotas, tenant=tenant)

    routes = VisionRoutes(
        authenticator=state.authenticator,
        captions=Captions(client, state.authenticator.quotas),
        poke=Poke(post, settings.poke_url),
        new_socket=new_socket,
        account_of=account_of,
        cause_of=cause_of,
    )
    prefix = SYSTEMS["vision"].at
    app.mount(prefix, routes.application(prefix))
