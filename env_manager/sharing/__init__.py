"""Carries versions from one environment or machine to another."""
