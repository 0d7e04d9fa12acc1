"""Rotation of the passwords that have to stay: schedules, Secrets Manager's four steps, and operations."""
