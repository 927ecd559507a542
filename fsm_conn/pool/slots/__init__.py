"""Slots: each holds one connection of a pool and has its own life. Also the set of all slots."""
