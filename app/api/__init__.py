"""The loopback API, one module a page."""
