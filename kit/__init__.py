"""Domain-free library of services and workers: bus, bucket, authentication, HTTP, logs, settings."""
