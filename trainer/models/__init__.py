"""Models: loading and adapting."""
