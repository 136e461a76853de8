"""The part of S3's HTTP interface that the bucket needs: signatures, requests with retries, the XML of answers."""
