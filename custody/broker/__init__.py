"""The broker's use cases over ports: request, decide, open, read, stop. It holds the live keys."""
