"""Diagnosis of failed logins."""
