"""Reads images and exchanges annotations with a NimbusImage (Girder) server."""
