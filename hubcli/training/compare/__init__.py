"""Methods side by side: one training a method and seed, each in a process of its own, and one table and picture of them."""
