"""Brings wheels: which come from where, how large they are, large ones resumed."""
