"""Photos of a generated toy from known places, for tests, measurements and the demo."""
