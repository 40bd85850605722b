"""Entries from another project's index: what it lists is listed here too, with where it lives."""
