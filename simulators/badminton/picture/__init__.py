"""Pictures of a match: hall, net, persons, shuttle, noise."""
