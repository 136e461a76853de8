"""What every worker runs inside: its context, events out, artifacts, checkpoints, the local runner."""
