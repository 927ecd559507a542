"""Leases, and calls without one: how callers wait for a slot, get one, and give it back."""
