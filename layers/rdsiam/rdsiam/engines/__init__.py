"""All SQL, behind protocols: one package for each family of engines."""
