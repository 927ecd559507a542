"""The commands, each in the module of its name, imported only when it is needed."""
