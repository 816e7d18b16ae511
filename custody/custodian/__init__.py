"""The custodian's side: key files, and decisions on what the tool itself has verified."""
