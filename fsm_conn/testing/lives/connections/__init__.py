"""The life of a connection: its steps, its invariants, and the oracles that they ask."""
