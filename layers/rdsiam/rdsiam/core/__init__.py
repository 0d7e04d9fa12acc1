"""Helpers that need no AWS, no SQL and no policy."""
