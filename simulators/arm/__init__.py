"""A virtual SO-101 with a wrist camera over an invented table top, so that every true pose and colour is known."""
