"""Names what is wrong: cause, evidence, remedy."""
