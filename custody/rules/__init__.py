"""The decisions, pure: a state and an entry in, the next state or a refusal out. Broker and audit call the same."""
