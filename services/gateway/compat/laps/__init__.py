"""Routes of the lap comparison that this system replaces: two uploads, one job, a poll."""
