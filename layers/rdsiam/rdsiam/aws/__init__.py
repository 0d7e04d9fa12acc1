"""One adapter for each AWS service; no decisions."""
