"""All events. Importing this package registers every event class."""

from contracts.events import delivery, job, session, upload
from contracts.events.base import Cursor, Envelope, EventData, Message, decode, encode, subject_of

__all__ = [
    "Cursor",
    "Envelope",
    "EventData",
    "Message",
    "decode",
    "delivery",
    "encode",
    "job",
    "session",
    "subject_of",
    "upload",
]
