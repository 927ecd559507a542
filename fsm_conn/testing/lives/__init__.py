"""One life of a machine, a connection or a pool: its steps, its invariants, and its evidence."""
