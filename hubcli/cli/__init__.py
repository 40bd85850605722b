"""The command line: one file per command group; parse, call `hubcli.api`, print. The only place that prints or exits."""
