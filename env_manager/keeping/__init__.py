"""Looks after generations and the room they take."""
