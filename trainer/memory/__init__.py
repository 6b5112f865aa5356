"""How much memory a run needs, what the machine has, and what to do about it."""
