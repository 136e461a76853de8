"""Workers of live sessions: one that tests play themselves, and one that only takes notes, on Modal too."""
