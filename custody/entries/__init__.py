"""What the log holds: one type per entry, parsed strictly."""
