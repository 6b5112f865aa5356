"""Judging base and tuned on held-out rows: scores, how sure they are, and a verdict in words."""
