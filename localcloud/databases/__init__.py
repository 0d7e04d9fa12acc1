"""RDS: real database servers, their tokens, and the lives of instances and clusters."""
