"""The life of one job: start, liveness, retry, end, retention."""
