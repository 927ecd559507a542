"""Processes of ours: starting, reading and ending them."""
