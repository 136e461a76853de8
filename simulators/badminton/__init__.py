"""Videos of badminton matches with complete ground truth."""
