"""Short clips of an arm over a table, a badminton court and a road, with the truth of what they show."""
