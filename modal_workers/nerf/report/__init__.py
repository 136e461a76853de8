"""Last stage: the pages and pictures for users, and the report with all figures."""
