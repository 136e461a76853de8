"""Every event there is. Importing this package registers them all."""

from contracts.events import delivery, job, upload
from contracts.events.base import Cursor, Envelope, EventData, Message, decode, encode, subject_of

__all__ = ["Cursor", "Envelope", "EventData", "Message", "decode", "delivery", "encode", "job", "subject_of", "upload"]
