"""History of streams of events: segments of the archive, copies of streams, and one interface to read them all."""
