"""Training, evaluating and comparing: recipes in, adapters with measured figures out."""
