"""Training code: runs inside a managed environment and sees only that environment."""
