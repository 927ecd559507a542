"""The parts of loops in virtual time."""
