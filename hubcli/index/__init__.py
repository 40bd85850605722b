"""The catalogue: names → releases, from a bundled, local or remote index, read through a view built once a snapshot."""
