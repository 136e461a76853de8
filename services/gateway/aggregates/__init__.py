"""What jobs, uploads and sessions share: the view, reading one aggregate, waiting, pagination."""
