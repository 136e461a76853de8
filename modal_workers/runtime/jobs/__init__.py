"""One run of a job: claim, context, progress, termination."""
