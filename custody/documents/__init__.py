"""What people and brokers sign: one file per document, parsed strictly, shown plainly to whoever signs."""
