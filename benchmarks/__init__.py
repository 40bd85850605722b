"""What hubcli costs, side by side with its peers: `python -m benchmarks` runs all and writes docs/benchmarks.md."""
