"""Generated from proto/custody/wire/v1 by ops/gen-proto. Do not edit."""
