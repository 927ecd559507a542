"""Which moments of lives are one: what can matter later, as values that can be compared."""
