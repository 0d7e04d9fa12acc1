"""Django's MySQL backend with a fresh token for each connection."""
