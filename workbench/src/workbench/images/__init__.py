"""Images: reading them out of files, importing them as datasets, and serving them through large_image."""
