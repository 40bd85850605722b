"""The static table of commands: name → where it lives and one line of help, so that `--help` imports no command."""

COMMANDS: dict[str, tuple[str, str]] = {
    "install": ("hubcli.cli.adapters:install", "Fetch, verify and store adapters."),
    "uninstall": ("hubcli.cli.adapters:uninstall", "Remove adapters from the store."),
    "list": ("hubcli.cli.adapters:list_", "List the installed adapters."),
    "info": ("hubcli.cli.adapters:info", "Show what is known about one adapter."),
    "search": ("hubcli.cli.search:search", "Search the indexes, offline."),
    "outdated": ("hubcli.cli.adapters:outdated", "List adapters that have a newer version."),
    "upgrade": ("hubcli.cli.adapters:upgrade", "Install the newest versions of installed adapters."),
    "verify": ("hubcli.cli.adapters:verify", "Hash installed files again and compare."),
    "run": ("hubcli.cli.run:run", "Predict with an adapter or a composition."),
    "fuse": ("hubcli.cli.fuse:fuse", "Fold an adapter or a composition into its base."),
    "convert": ("hubcli.cli.convert:convert", "Write an adapter in another library's format."),
    "merge": ("hubcli.cli.merge:merge", "Make one adapter of several."),
    "lock": ("hubcli.cli.project:lock", "Pin what adapters.toml asks for in adapters.lock."),
    "sync": ("hubcli.cli.project:sync", "Install exactly what adapters.lock pins."),
    "index": ("hubcli.cli.index:index", "Manage, build and check indexes."),
    "hub": ("hubcli.cli.hub:hub", "Serve a folder as a hub."),
    "plugins": ("hubcli.cli.plugins:plugins", "List, show and check plugins."),
    "cache": ("hubcli.cli.upkeep:cache", "Show or prune the store."),
    "doctor": ("hubcli.cli.upkeep:doctor", "Check this installation, and mend it with --fix."),
    "completion": ("hubcli.cli.upkeep:completion", "Print a shell completion script."),
}
