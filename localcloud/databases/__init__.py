"""RDS: real database servers, their tokens and their lives."""
