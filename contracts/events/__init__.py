"""Every event there is. Importing this package registers them all."""

from contracts.events import job, upload
from contracts.events.base import Cursor, Envelope, EventData, Message, decode, encode, subject_of

__all__ = ["Cursor", "Envelope", "EventData", "Message", "decode", "encode", "job", "subject_of", "upload"]
