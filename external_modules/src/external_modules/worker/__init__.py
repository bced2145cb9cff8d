"""What runs in a module's environment: standard library, numpy and Python 3.9 only."""
