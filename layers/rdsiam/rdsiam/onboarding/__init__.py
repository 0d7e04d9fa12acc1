"""Makes a database passwordless, as access.yaml declares."""
