"""Publishing: from a folder to a repository on a hub and an entry in an index."""
