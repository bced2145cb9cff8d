"""A NimbusImage-compatible server for one machine: datasets, annotations, models, jobs."""
