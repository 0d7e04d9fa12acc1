"""A login token for a caller, or a denial."""
