"""Videos of the page: views of uploads, jobs and events."""
