"""access.yaml: parsed, validated, and the decisions that it makes."""
