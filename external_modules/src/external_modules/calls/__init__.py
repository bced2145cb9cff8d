"""Calls of workers: two ways of calling, the messages and arrays that go back and forth, and the worker's log."""
