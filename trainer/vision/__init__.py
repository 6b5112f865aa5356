"""Pictures: read, made into what a model takes, and trained on."""
