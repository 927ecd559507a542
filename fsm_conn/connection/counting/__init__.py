"""What has happened to a connection: counts, and reports as values."""
