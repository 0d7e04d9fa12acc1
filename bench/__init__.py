"""Measures what design.md promises; `make bench` runs all of it."""
