"""The template: a program of its own, that the plugin's interpreter runs (`python template SOCKET`). See `__main__`."""
