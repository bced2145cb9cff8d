"""The HTTP side: the platform's routes over the store."""
