"""Costs: prices of devices, cost of attempts and pipelines, cost caps."""
