"""The report and the data files of a lap comparison."""
