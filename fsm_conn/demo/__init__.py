"""What `fsm-conn demo` runs: a small plugin, as real as any, and the code generated from its `.proto`."""
