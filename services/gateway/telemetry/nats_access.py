"""NATS access to a live session: URL, subjects, and credentials for this session only."""

from __future__ import annotations

from pydantic import BaseModel, Field

from contracts.session import Session, clock_subject, telemetry_subject
from contracts.worker_rights import session_sender_grant
from kit.auth.bus_token import BusTokenIssuer
from services.gateway.settings import SessionSettings


class NatsSubjects(BaseModel):
    """Subjects of a session's inputs, and of its worker's clock."""

    joints: str
    frames: str
    clock: str


class NatsIngest(BaseModel):
    """Connection to NATS. `credentials` is the text of a credentials file, `inbox_prefix` what it allows."""

    url: str
    subjects: NatsSubjects
    user: str | None = None
    password: str | None = None
    credentials: str | None = Field(default=None, description="JWT and seed for this session only.")
    inbox_prefix: str | None = None


class NatsAccess:
    """Describes how clients reach a session by NATS."""

    def __init__(self, settings: SessionSettings) -> None:
        """Read the account's seed, if one is configured.

        Raises:
            OSError, ValueError: the seed cannot be read or is invalid.
        """
        self._settings = settings
        seed = settings.seed()
        self._tokens = BusTokenIssuer(seed, settings.session_account) if seed else None

    def describe(self, session: Session, *, with_credentials: bool = False) -> NatsIngest | None:
        """Return the access to a session; None if clients cannot reach NATS, or the session has ended.

        Credentials are a secret: only the answer that opens the session contains them.
        """
        if not self._settings.client_nats_url or session.state.ended:
            return None
        subjects = NatsSubjects(
            joints=telemetry_subject(session.tenant, session.id, "joints"),
            frames=telemetry_subject(session.tenant, session.id, "frames"),
            clock=clock_subject(session.tenant, session.id),
        )
        login: dict[str, str | None] = {}
        if with_credentials and self._tokens:
            token = self._tokens.issue(session_sender_grant(session.tenant, session.id), session.opened.max_length_s)
            login = {"credentials": token.credentials.get_secret_value(), "inbox_prefix": token.inbox_prefix}
        elif with_credentials and (password := self._settings.client_nats_password):
            login = {
                "user": self._settings.client_nats_user,
                "password": password.get_secret_value(),
                "inbox_prefix": self._settings.client_nats_inbox_prefix,
            }
        return NatsIngest(url=self._settings.client_nats_url, subjects=subjects, **login)
