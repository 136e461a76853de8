"""All events. Importing this package registers every event class."""

from contracts.events import budget, delivery, erasure, job, rule, session, upload
from contracts.events.base import Cursor, Envelope, EventData, Message, decode, encode, subject_of

__all__ = [
    "Cursor",
    "Envelope",
    "EventData",
    "Message",
    "budget",
    "decode",
    "delivery",
    "encode",
    "erasure",
    "job",
    "rule",
    "session",
    "subject_of",
    "upload",
]
