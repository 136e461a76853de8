"""Runtime that every worker runs inside: context, events, artifacts, checkpoints, worker process."""
