"""The lap_compare worker: where both cars were at the same place, and what that says about the lap."""
