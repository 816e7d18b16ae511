"""The auditor: verifies a whole log and its documents offline, trusting nobody."""
