"""Slots: a connection of a pool each, with a life of its own; and the set of them."""
