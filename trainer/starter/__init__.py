"""The starter model, its pre-training text and the two skills it can be taught: all made by this package."""
