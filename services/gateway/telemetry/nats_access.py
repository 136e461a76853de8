"""The way into a live session by NATS: where, on which subjects, and with credentials for this session only."""

from __future__ import annotations

from pydantic import BaseModel, Field

from contracts.session import Session, clock_subject, telemetry_subject
from contracts.worker_rights import session_sender_grant
from kit.auth.bus_token import BusTokenIssuer
from services.gateway.settings import SessionSettings


class NatsSubjects(BaseModel):
    """Where a session's inputs are published, and where its worker tells its time."""

    joints: str
    frames: str
    clock: str


class NatsIngest(BaseModel):
    """How to reach NATS. `credentials` is a credentials file's text, `inbox_prefix` what they allow for answers."""

    url: str
    subjects: NatsSubjects
    user: str | None = None
    password: str | None = None
    credentials: str | None = Field(default=None, description="JWT and seed, for this session only, until it must end.")
    inbox_prefix: str | None = None


class NatsAccess:
    """Hands out the way in."""

    def __init__(self, settings: SessionSettings) -> None:
        """Read the account's seed, where there is one.

        Raises:
            OSError, ValueError: the seed cannot be read or is none.
        """
        self._settings = settings
        seed = settings.seed()
        self._tokens = BusTokenIssuer(seed, settings.session_account) if seed else None

    def of(self, session: Session, *, with_credentials: bool = False) -> NatsIngest | None:
        """Describe the way into a session; None where clients do not reach NATS, or the session has ended.

        Only whoever opened a session is given credentials, once: they are a secret.
        """
        if not self._settings.client_nats_url or session.state.ended:
            return None
        subjects = NatsSubjects(
            joints=telemetry_subject(session.tenant, session.id, "joints"),
            frames=telemetry_subject(session.tenant, session.id, "frames"),
            clock=clock_subject(session.tenant, session.id),
        )
        place: dict[str, str | None] = {}
        if with_credentials and self._tokens:
            token = self._tokens.issue(session_sender_grant(session.tenant, session.id), session.opened.max_length_s)
            place = {"credentials": token.credentials.get_secret_value(), "inbox_prefix": token.inbox_prefix}
        elif with_credentials and (password := self._settings.client_nats_password):
            place = {
                "user": self._settings.client_nats_user,
                "password": password.get_secret_value(),
                "inbox_prefix": self._settings.client_nats_inbox_prefix,
            }
        return NatsIngest(url=self._settings.client_nats_url, subjects=subjects, **place)
