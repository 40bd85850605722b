"""Settings: command line > `HUBCLI_*` > `./adapters.toml` > the user's `config.toml`. The bundled index comes last.

    offline = true
    mirrors = ["/mnt/adapters"]
    [indexes]                       # in order; the first that has a name wins
    acme = { url = "https://index.acme.example/", token-env = "ACME_TOKEN", scopes = ["acme/*"] }
    team = "/srv/team-index"        # a folder
    open = "hf:datasets/acme/index" # a dataset repository of the hub (HF_ENDPOINT), at main or @REV
    bundled = false                 # leave the bundled index out (true: put it here)
    [tokens]                        # for a hub on another origin than its index
    "https://hub.acme.example" = "ACME_TOKEN"

Tokens are named by environment variable and bound to one origin, by the user's own config alone: a project's
`adapters.toml` comes with a clone, and must not be able to send a token anywhere.
"""

from hubcli.config.edit import add_index, remove_index
from hubcli.config.load import load_config, user_config_file
from hubcli.config.model import (
    BUNDLED,
    DEFAULT_ENDPOINT,
    Config,
    IndexConfig,
    hub_index,
    is_loopback,
    no_index,
    origin_of,
    own_hub,
)

__all__ = [
    "BUNDLED",
    "DEFAULT_ENDPOINT",
    "Config",
    "IndexConfig",
    "add_index",
    "hub_index",
    "is_loopback",
    "load_config",
    "no_index",
    "origin_of",
    "own_hub",
    "remove_index",
    "user_config_file",
]
