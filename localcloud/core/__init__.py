"""What all parts of localcloud stand on: processes, certificates, HTTP, signatures."""
