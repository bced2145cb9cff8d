"""Pipelines: a YAML file says what is done with each image, and files or folders of images go through it."""
