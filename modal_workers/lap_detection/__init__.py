"""Detection of laps in one onboard video: the moments at which the car passes the same place again."""
