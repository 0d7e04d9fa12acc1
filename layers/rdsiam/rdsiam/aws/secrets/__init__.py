"""Secrets Manager: values, versions, schedules and metadata of secrets."""
