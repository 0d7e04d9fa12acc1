"""AWS's endpoint and CloudFormation."""
