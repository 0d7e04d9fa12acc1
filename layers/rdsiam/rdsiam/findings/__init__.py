"""The catalogue of findings: what an audit can report, with risk and remediation."""
