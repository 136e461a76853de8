"""REST in, events out: uploads, jobs and artifacts, and the view of them that lists and searches."""
