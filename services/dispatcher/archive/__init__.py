"""Archive of the stream EVENTS: what the leader writes to the bucket, and how far it is."""
