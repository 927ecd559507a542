"""How a connection is called: at once or patiently, by name or by attribute, and who is told of it."""
