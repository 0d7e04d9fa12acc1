"""IAM: credentials, policies, and the judge of every call."""
