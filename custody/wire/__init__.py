"""Generated protobuf and the codec: messages to documents and back, errors to statuses and back."""
