"""The targets of a pool: their state, the choice of the next one to connect to, and moves between them."""
