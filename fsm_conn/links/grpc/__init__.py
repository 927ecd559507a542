"""Links over gRPC: channels, calls, services and health."""
