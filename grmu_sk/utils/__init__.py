"""Helpers for those who extend the package or compare its methods."""
