"""Django's PostgreSQL backend with a fresh token for each connection."""
