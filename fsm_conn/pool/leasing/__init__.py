"""Leases, and calls without one: who waits for a slot, who is given one, and how it is given back."""
