"""What makes a step fast: each file one lever, the same mathematics, chosen by a rule that says why."""
