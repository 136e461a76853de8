"""Files of events, and what they are made of: export, import, verification, redaction."""
