"""The annotated config.yaml of the repository: it loads, and what it calls defaults are the defaults."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scheduler.config.load import load_settings
from scheduler.config.settings import Settings
from scheduler.rules.in_force.apply import read_file_rules
from workers.errors import ConfigError
from workers.secret_values import reveal

CONFIG = Path(__file__).parents[4] / "config.yaml"


def test_the_annotated_configuration_loads_and_its_rules_are_valid():
    settings = load_settings(CONFIG, env={})
    rulesets, _ = read_file_rules(settings)
    assert [len(ruleset.rules) for ruleset in rulesets.values()] == [2]


def test_every_value_it_shows_is_the_default_except_the_example_bucket():
    shown = load_settings(CONFIG, env={})
    assert shown.model_copy(update={"buckets": {}}) == Settings()


def test_every_section_is_in_it():
    text = CONFIG.read_text(encoding="utf-8")
    assert [
        name for name in Settings.model_fields if not re.search(rf"^#? ?{name}:", text, re.MULTILINE)
    ] == []


def test_the_environment_wins_over_the_file():
    settings = load_settings(CONFIG, env={"FERRYMAN_GATEWAY__LISTEN": "127.0.0.1:9999"})
    assert settings.gateway.listen == "127.0.0.1:9999"


@pytest.mark.parametrize(
    ("text", "place", "remedy"),
    [
        ("gatway: {}\n", ":1: gatway", "did you mean 'gateway'"),
        ("gateway:\n  listen: 8080\n", ":2: gateway.listen", "8080"),
        ("gateway:\n  listen: nowhere\n", ":2: gateway.listen", "host:port"),
        ("broker: {heartbeat_timeout_s: soon}\n", ":1: broker.heartbeat_timeout_s", "number"),
        ("store: {endpoint: s3.example.com}\n", ":1: store", "http://"),
        ("buckets: {ab: {}}\n", ":1: buckets", "3 to 63"),
        ("- a\n", ":1:", "mapping"),
        ("a: [\n", "", "not YAML"),
        ("gateway: {listen: 127.0.0.1:1}\ngateway: {}\n", ":2: gateway:", "second time"),
        ("buckets:\n  site: {}\n  site: {}\n", ":3: buckets.site:", "second time"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_what_is_allowed(tmp_path, text, place, remedy):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(path, env={})
    assert place in str(caught.value)
    assert remedy in str(caught.value)


def test_the_brokers_url_may_come_from_a_file_and_its_password_stays_out_of_messages(tmp_path):
    file = tmp_path / "broker-url"
    file.write_text("redis://:geheim@valkey:6379/0\n")
    broker = load_settings(None, env={"FERRYMAN_BROKER__URL_FILE": str(file)}).broker
    assert broker.url == "redis://:geheim@valkey:6379/0"
    assert type(broker).model_validate(broker.model_dump()) == broker
    file.write_text("http://:geheim@valkey\n")
    with pytest.raises(ConfigError, match="redis://") as caught:
        load_settings(None, env={"FERRYMAN_BROKER__URL_FILE": str(file)})
    assert "geheim" not in str(caught.value)
    with pytest.raises(ConfigError, match="exclude each other"):
        load_settings(None, env={"FERRYMAN_BROKER__URL_FILE": str(file), "FERRYMAN_BROKER__URL": "redis://x"})
    with pytest.raises(ConfigError, match="url_file"):
        load_settings(None, env={"FERRYMAN_BROKER__URL_FILE": str(tmp_path / "none")})


@pytest.mark.parametrize(
    "text",
    [
        "admin: {token: 4711471147}\n",
        "store: {secret_access_key: 4711471147, access_key_id: a}\n",
        "broker: {url: 'http://:4711471147@valkey'}\n",
        "origin: {credentials: {a: {type: basic, username: u, password: 4711471147}}}\n",
    ],
)
def test_a_wrong_value_that_is_a_secret_is_not_shown(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=":1: ") as caught:
        load_settings(path, env={})
    assert "4711471147" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("redis://:gehe/im@valkey:6379/0", "%2F"),
        ("redis://:gehe#im@valkey:6379/0", "%23"),
        ("redis://user:gehe?im@valkey:6379/0", "%3F"),
        ("redis://:gehe[im@valkey:6379/0", "%5B"),
        ("redis://user/geheim@valkey:6379/0", "%2F"),
        ("redis://geheim#user@valkey", "%23"),
        ("unix://:gehe/im@/run/valkey.sock", "%2F"),
        ("redis://:geheim@valkey:port/0", "host and port"),
        ("redis://:geheim@", "host and port"),
        ("redis://:geheim@valkey/queue", "number"),
        ("geheim@valkey", "redis://"),
        ("geheim://valkey", "redis://"),
        ("gehe/im", "redis://"),
    ],
)
def test_a_broker_url_that_cannot_be_taken_apart_is_refused_and_never_shown(tmp_path, url, remedy):
    path = tmp_path / "config.yaml"
    path.write_text(f"broker: {{url: '{url}'}}\n")
    for load in (
        lambda: load_settings(path, env={}),
        lambda: load_settings(None, env={"FERRYMAN_BROKER__URL": url}),
    ):
        with pytest.raises(ConfigError, match="broker: url") as caught:
            load()
        assert remedy in str(caught.value)
        assert "im@" not in str(caught.value)
        assert "gehe/" not in str(caught.value)
        assert ":gehe" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://valkey", "redis://valkey:6379", "rediss://user:p%2Fw%23@valkey:6380/3", "redis://:a@b@valkey/0",
        "redis://[::1]:6379/0", "unix:///run/valkey@1.sock?db=2", "unix://u:p@/run/valkey.sock",
        "redis://valkey/0?password=a@b",
    ],
)  # fmt: skip
def test_a_broker_url_of_the_usual_forms_is_taken(url):
    assert load_settings(None, env={"FERRYMAN_BROKER__URL": url}).broker.url == url


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("http://AKID:geheim@store:9000", "access_key_id"),
        ("https://geheim@store", "access_key_id"),
        ("AKID:geheim@store", "access_key_id"),
        ("http://", "http://"),
        ("http://store:port", "http://"),
        ("http://[::1", "http://"),
        ("store:9000", "http://"),
    ],
)
def test_an_endpoint_has_no_user_info_and_shows_none(url, remedy):
    with pytest.raises(ConfigError, match="store: endpoint") as caught:
        load_settings(None, env={"FERRYMAN_STORE__ENDPOINT": url})
    assert remedy in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_a_secret_file_that_cannot_be_read_is_named_with_its_setting(tmp_path):
    for file in (tmp_path / "none", tmp_path / "binary"):
        (tmp_path / "binary").write_bytes(b"\xff\xfe")
        with pytest.raises(ConfigError, match=r"store\.token: cannot read the secret file .*"):
            reveal(None, file, name="store.token")
    (tmp_path / "good").write_text(" geheim \r\n")
    assert reveal(None, tmp_path / "good") == " geheim "


def test_a_missing_file_names_the_way_without_one(tmp_path):
    with pytest.raises(ConfigError, match=r"no such file.*--origin"):
        load_settings(tmp_path / "none.yaml", env={})


def test_a_wrong_variable_is_named():
    with pytest.raises(ConfigError, match="environment variable FERRYMAN_STORE__PART_SIZE_BYTES"):
        load_settings(None, env={"FERRYMAN_STORE__PART_SIZE_BYTES": "many"})


def test_a_rule_with_an_origin_without_a_scheme_is_refused_with_its_path(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("buckets: {site: {rules: [{origins: ['ftp://old.example.com']}]}}\n")
    with pytest.raises(ConfigError, match=r"buckets\.site\.rules"):
        read_file_rules(load_settings(path, env={}))


def test_only_addresses_that_are_said_are_our_own_to_the_guard_of_origins():
    assert Settings().own_listeners() == ()  # a machine of workers may have its origin on port 8080
    said = Settings.model_validate(
        {"gateway": {"listen": "127.0.0.1:8080"}, "admin": {"listen": "127.0.0.1:0", "token": "t"}}
    )
    assert said.own_listeners() == (("127.0.0.1", 8080),)
    assert said.worker().listeners == said.own_listeners()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("[{id: a, secret: b, may: [read, fly]}]", "may"),
        ("[{id: a, secret: b, may: []}]", "may"),
        ("[{id: a, secret: b, buckets: []}]", "buckets"),
        ("[{id: a, secret: b}, {id: a, secret: c}]", "'a' is given to two keys"),
    ],
)
def test_an_access_key_that_makes_no_sense_is_refused_by_name(tmp_path, keys, said):
    path = tmp_path / "config.yaml"
    path.write_text(f"gateway:\n  access_keys: {keys}\n")
    with pytest.raises(ConfigError, match="access_keys") as refused:
        load_settings(path, env={})
    assert said in str(refused.value)
