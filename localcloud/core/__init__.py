"""Foundation of localcloud: processes, certificates, HTTP, signatures."""
