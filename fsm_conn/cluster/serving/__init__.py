"""Plugins of this machine behind a port: a listener, a relay for each connection, and the server that holds them."""
