"""The sync protocol of Convex clients, and the functions that they call by it."""
