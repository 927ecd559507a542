"""The template: a separate program that the plugin's interpreter runs (`python template SOCKET`). See `__main__`."""
