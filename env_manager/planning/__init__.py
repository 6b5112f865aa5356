"""Decides what to install on a machine: catalog, plan, build of torch, lock."""
