"""The files for readers: results, views for clients of the replaced system, report, tables."""
