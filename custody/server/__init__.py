"""The broker's side of the wire: gRPC services over the use cases of custody.broker."""
