"""Settings: which level wins, what is refused, where tokens may go (THREATS 38, 57)."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

import hubcli.plugins
from hubcli.api import index_update
from hubcli.config import BUNDLED, add_index, load_config, origin_of, remove_index, user_config_file
from hubcli.discovery import Found
from hubcli.errors import HubcliError, NotFoundError, UsageError


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HUBCLI_INDEXES", "HUBCLI_MIRRORS", "HUBCLI_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def user(text: str) -> None:
    user_config_file().parent.mkdir(parents=True, exist_ok=True)
    user_config_file().write_text(text)


def project(text: str) -> None:
    Path("adapters.toml").write_text(text)


def urls() -> dict[str, str]:
    return {index.name: index.url for index in load_config().indexes}


def refusal(*, indexes: tuple[str, ...] = ()) -> UsageError:
    with pytest.raises(UsageError) as error:
        load_config(indexes=indexes)
    assert error.value.id == "E_CONFIG" and error.value.exit_code == 2
    return error.value


def test_without_settings_there_is_the_bundled_index() -> None:
    config = load_config()
    assert [(index.name, index.url) for index in config.indexes] == [(BUNDLED, BUNDLED)]
    assert (config.mirrors, config.offline, config.tokens()) == ((), None, {})


def test_each_level_comes_before_the_next(monkeypatch: pytest.MonkeyPatch, empty_folder: Path) -> None:
    user('[indexes]\nacme = "https://user.example"\nown = "/srv/own"\nlow = "/srv/low"')
    project('[indexes]\nacme = "https://project.example"\nlocal = "index"\nmid = "/p"')
    monkeypatch.setenv("HUBCLI_INDEXES", "mid=/e top=/e")
    config = load_config(indexes=["top=https://cli.example/x"])
    assert [(index.name, index.url) for index in config.indexes] == [
        ("top", "https://cli.example/x/"),
        ("mid", "/e"),
        ("acme", "https://project.example/"),
        ("local", str(empty_folder / "index")),
        ("own", "/srv/own"),
        ("low", "/srv/low"),
        (BUNDLED, BUNDLED),
    ]


def test_the_bundled_index_goes_where_it_is_put() -> None:
    user('[indexes]\nbundled = true\nacme = "/a"')
    assert list(urls()) == [BUNDLED, "acme"]
    user('[indexes]\nbundled = false\nacme = "/a"')
    assert list(urls()) == ["acme"]


def test_mirrors_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    user('mirrors = ["/u"]')
    project('mirrors = ["https://p.example"]')
    monkeypatch.setenv("HUBCLI_MIRRORS", "/e /u")
    assert load_config(mirrors=["/c"]).mirrors == ("/c", "/e", "/u", "https://p.example/")


@pytest.mark.parametrize(
    "settings, environment, argument, switch",
    [
        ("", None, None, None),
        ("offline = true", None, None, "offline in "),
        ("offline = true", "0", None, None),
        ("offline = true", None, False, None),
        ("", "1", None, "HUBCLI_OFFLINE"),
        ("", "1", True, "--offline"),
        ("", None, True, "--offline"),
    ],
)
def test_the_switch_that_is_off_has_a_name(
    monkeypatch: pytest.MonkeyPatch, settings: str, environment: str | None, argument: bool | None, switch: str | None
) -> None:
    user(settings)
    if environment:
        monkeypatch.setenv("HUBCLI_OFFLINE", environment)
    found = load_config(offline=argument).offline
    assert found == switch or (switch and str(found).startswith(switch))


def test_add_and_remove() -> None:
    user('# mine\nmirrors = ["/m"]\n[indexes]\nold = "/old"\n')
    add_index("acme", "https://Index.ACME.example:443/x", token_env="ACME_TOKEN", scopes=["acme/*"])
    add_index("here", "sub/../index", first=True)
    found = {index.name: index for index in load_config().indexes}
    assert list(found) == ["here", "old", "acme", BUNDLED]
    assert (found["acme"].token_env, found["acme"].scopes) == ("ACME_TOKEN", ("acme/*",))
    assert Path(found["here"].url).is_absolute() and load_config().mirrors == ("/m",)
    remove_index("old")
    remove_index(BUNDLED)
    assert list(urls()) == ["here", "acme"]
    assert tomllib.loads(user_config_file().read_text())["mirrors"] == ["/m"]
    with pytest.raises(NotFoundError, match="there are: here, acme\\)"):
        remove_index("old")


def test_the_bundled_index_comes_back() -> None:
    user('mirrors = ["/m"]\n[indexes]\nown = "/own"\n')
    remove_index(BUNDLED)
    with pytest.raises(NotFoundError) as error:
        index_update(BUNDLED)
    assert error.value.hint == "put it back: hubcli index add bundled bundled"
    assert add_index(BUNDLED, BUNDLED, dry_run=True).url == BUNDLED and list(urls()) == ["own"]
    add_index(BUNDLED, BUNDLED)
    assert user_config_file().read_text() == 'mirrors = [\n    "/m",\n]\n\n[indexes]\nown = "/own"\n'
    assert list(urls()) == ["own", BUNDLED]
    add_index(BUNDLED, BUNDLED, first=True)
    assert list(urls()) == [BUNDLED, "own"]


@pytest.mark.parametrize("url, options", [("/a", {}), (BUNDLED, {"scopes": ["a/*"]}), (BUNDLED, {"token_env": "T"})])
def test_the_bundled_index_is_what_it_is(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="bundled") as error:
        add_index(BUNDLED, url, **options)
    assert error.value.id == "E_CONFIG" and not user_config_file().exists()


@pytest.mark.parametrize("url", ["ftp://x", "HTTPS://x.example", "://x", "team2://x", "s3://bucket/index"])
def test_an_index_that_nothing_reads_is_not_added(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = [Found(f"index-{name}", "m", "d", "1") for name in ("team", "s3")]
    monkeypatch.setattr(hubcli.plugins, "scan", lambda _: iter(declared))
    monkeypatch.setenv("HUBCLI_DISABLE_PLUGINS", "index-s3")
    monkeypatch.setattr(hubcli.plugins, "plugins", hubcli.plugins.Plugins)
    expected = "expected a folder, hf:datasets/ORG/NAME, file://, http://, https://, team://, found"
    with pytest.raises(UsageError, match=expected) as error:
        add_index("two", url)
    assert error.value.id == "E_CONFIG" and "indexes.two" in error.value.message and not user_config_file().exists()
    add_index("two", "team://x")
    add_index("three", "file:///srv/index")
    assert urls() == {"two": "team://x", "three": "file:///srv/index", BUNDLED: BUNDLED}


def test_a_name_keeps_its_url_its_scopes_and_its_token() -> None:
    there: dict[str, Any] = {"token_env": "T", "scopes": ["acme/*"]}
    add_index("acme", "https://one.example", **there)
    before = user_config_file().read_bytes()
    for url, options, message in (
        ("https://two.example", there, r"stands for https://one\.example/ already"),
        ("https://one.example", {"token_env": "T"}, "other scopes: acme/\\*, not none"),
        ("https://one.example", {"scopes": ["acme/*"]}, "other token variable: T, not none"),
    ):
        with pytest.raises(UsageError, match=message) as error:
            add_index("acme", url, **options)
        assert error.value.hint == "take it off the list first: hubcli index remove acme"
    add_index("acme", "https://one.example/", **there)
    assert user_config_file().read_bytes() == before


def test_a_dry_run_checks_and_writes_nothing() -> None:
    add_index("acme", "/a", dry_run=True)
    with pytest.raises(HubcliError):
        add_index("ACME", "/a", dry_run=True)
    assert not user_config_file().exists()


@pytest.mark.parametrize(
    "url",
    [
        "https://user:secret@index.example/",
        "https://secret@index.example",
        "https://index.example/?token=secret",
        "https://index.example/#secret",
    ],
)
def test_no_credentials_in_urls(url: str) -> None:
    for text in (
        f'[indexes]\nx = "{url}"',
        f'mirrors = ["{url}"]',
        f'[tokens]\n"{url}" = "V"' if "@" in url else f'[indexes]\nx = "{url}"',
    ):
        user(text)
        error = refusal()
        assert "secret" not in f"{error} {error.cause} {error.hint}"
    user("")
    with pytest.raises(UsageError) as refused:
        add_index("x", url)
    assert "secret" not in str(refused.value) and not user_config_file().read_text()


@pytest.mark.parametrize(
    "text",
    [
        "indexes = 3",
        "[indexes]\nhf = '/x'",
        "[indexes]\nBAD = '/x'",
        "[indexes]\n'a b' = '/x'",
        "[indexes]\na = 3",
        "[indexes]\na = {url = '/x', token = 'secret'}",
        "[indexes]\na = {token-env = 'X'}",
        "[indexes]\na = {url = '/x', token-env = 'X'}",
        "[indexes]\na = {url = 'http://index.example', token-env = 'X'}",
        "[indexes]\na = {url = 'https://index.example', token-env = 'a b'}",
        "[indexes]\na = {url = '/x', scopes = 'acme/*'}",
        "[indexes]\na = {url = '/x', scopes = ['*']}",
        "[indexes]\na = {url = '/x', scopes = ['acme']}",
        "[indexes]\na = 'https://'",
        "mirrors = '/x'",
        "offline = 'yes'",
        "tokens = 'secret'",
        "ofline = true",
        "not toml",
    ],
)
def test_settings_that_can_not_be(text: str) -> None:
    user(text)
    assert "config.toml: " in str(refusal()) and "secret" not in str(refusal())


def test_a_project_can_not_bind_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    project("[indexes]\nevil = {url = 'https://evil.example', token-env = 'HF_TOKEN'}")
    assert "can't bind a token" in str(refusal())
    project("[tokens]\n'https://evil.example' = 'HF_TOKEN'")
    refusal()


def test_tokens_are_bound_to_origins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_TOKEN", "s3cret")
    monkeypatch.setenv("HUB_TOKEN", "two")
    user(
        "[indexes]\nacme = {url = 'https://index.acme.example/a/b', token-env = 'ACME_TOKEN'}\n"
        "unset = {url = 'https://other.example', token-env = 'UNSET_TOKEN'}\n"
        "[tokens]\n'https://hub.acme.example:8443' = 'HUB_TOKEN'"
    )
    project("[indexes]\nacme = 'https://evil.example'")
    config = load_config()
    assert config.tokens() == {"https://index.acme.example": "s3cret", "https://hub.acme.example:8443": "two"}
    assert "s3cret" not in repr(config)


@pytest.mark.parametrize(
    "url, origin",
    [
        ("https://A.example/x", "https://a.example"),
        ("https://a.example:443", "https://a.example"),
        ("http://a.example:443/", "http://a.example:443"),
        ("http://[::1]:80/x", "http://[::1]"),
    ],
)
def test_origins(url: str, origin: str) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    "url", ["ftp://a.example", "https:///x", "a.example", "https://a.example:99999", "file:///etc"]
)
def test_what_is_no_origin(url: str) -> None:
    with pytest.raises(UsageError):
        origin_of(url)


def test_arguments_that_are_no_index() -> None:
    for text in ("acme", "acme=", "=/x", "HF=/x"):
        refusal(indexes=(text,))
