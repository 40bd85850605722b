"""Mirrors: a folder that holds entries of indexes and all their files, so that another machine installs from it alone."""
