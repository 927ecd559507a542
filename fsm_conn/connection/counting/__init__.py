"""Counts and reports of what happened to a connection."""
