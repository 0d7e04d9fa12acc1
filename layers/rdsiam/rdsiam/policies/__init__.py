"""IAM policies that let roles connect."""
