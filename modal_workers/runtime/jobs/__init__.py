"""One run of a job: its context, progress, events and termination."""
