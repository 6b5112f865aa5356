"""Python environments as generations: planned, built aside, proved, switched, rolled back."""
