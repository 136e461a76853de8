"""What services and the workers' runtime share and what knows nothing of jobs: bus, bucket, logs, settings."""
