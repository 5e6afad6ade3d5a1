"""Objects by path: in a directory or in S3."""
