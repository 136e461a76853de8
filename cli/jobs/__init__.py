"""Commands of jobs: submit, list, follow, cancel, retry; their events and artifacts; the workloads."""
