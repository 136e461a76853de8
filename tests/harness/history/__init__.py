"""Events for tests of history: samples of every type."""
