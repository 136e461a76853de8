"""Budgets of tenants: limits, use, and requests that are refused before anything is stored."""
