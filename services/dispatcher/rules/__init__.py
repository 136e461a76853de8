"""Upload rules: what a tenant wants done with its uploads, submitted as jobs."""
