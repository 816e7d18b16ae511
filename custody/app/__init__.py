"""The compositions: one file per program, where parties, adapters, clock and entropy are put together."""
