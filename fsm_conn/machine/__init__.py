"""Explicit state machines with async activities: the framework."""
