"""The workloads that this server offers."""
