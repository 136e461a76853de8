"""Budgets of tenants: what is spent and reserved, what may be launched, warnings."""
