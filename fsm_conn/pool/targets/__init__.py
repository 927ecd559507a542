"""The targets of a pool: what was given, how each is doing, which is the next to connect to, and who moves where."""
