"""What loops in virtual time are made of."""
