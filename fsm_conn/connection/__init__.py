"""The table of a connection, and the `Connection` that applications use."""
