"""The life of a connection, and what applications call."""
