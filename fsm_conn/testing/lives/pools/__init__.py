"""The life of a pool: its steps, and the model that it is compared with."""
