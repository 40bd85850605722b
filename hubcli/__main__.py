"""The front door: `--version` is answered before anything is imported; all else goes to the command line in `hubcli.cli`."""

import sys

from hubcli._version import __version__


def main() -> None:
    """Run the command line and exit with its code."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        print(f"hubcli {__version__}")
        return
    import gc

    from hubcli.cli.main import run

    code = run(sys.argv[1:])
    gc.freeze()  # else the last collection walks every object there is, a tenth of a command, to free what goes anyway
    sys.exit(code)


if __name__ == "__main__":
    main()
