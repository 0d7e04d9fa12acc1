"""Real database servers that behave like RDS's."""
