"""Calls on a connection: immediate or waiting, by name or by attribute, and their observers."""
