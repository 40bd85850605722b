"""Training, evaluating and comparing: recipes in, adapters with measured figures out."""

from hubcli import quantised as quantised  # before transformers' Trainer brings bitsandbytes, which it keeps quiet
