"""What `broker.url` says: databases, sentinels, and what of it may be shown."""

from __future__ import annotations

import pytest

from workers.broker_address import (
    Sentinels,
    check_broker_url,
    database_of,
    identity_of,
    place_of,
    sentinels_of,
    server_url,
)
from workers.settings import BrokerSettings


@pytest.mark.parametrize(
    ("url", "database", "ledger"),
    [
        ("redis://h:1", 0, "redis://h:1/1"),
        ("rediss://u:p@h:1/2?x=1", 2, "rediss://u:p@h:1/1?x=1"),
        ("unix:///run/v.sock?db=3", 3, "unix:///run/v.sock?db=1"),
        ("redis+sentinel://u:p@h:1,g:2/m/4?x=1", 4, "redis://u:p@master.invalid/1?x=1"),
        ("rediss+sentinel://h/m", 0, "rediss://master.invalid/1"),
    ],
)
def test_the_ledger_is_another_database_than_the_queue(url, database, ledger):
    check_broker_url(url)
    assert (database_of(url), server_url(url, 1)) == (database, ledger)


@pytest.mark.parametrize(
    ("url", "hosts", "master"),
    [
        ("redis+sentinel://h/my%20master", (("h", 26379),), "my master"),
        (
            "redis+sentinel://:p%40@a:1,10.0.0.2,[::1]:3/m/0",
            (("a", 1), ("10.0.0.2", 26379), ("::1", 3)),
            "m",
        ),
    ],
)
def test_sentinels_are_a_list_of_hosts_and_the_name_that_they_watch(url, hosts, master):
    check_broker_url(url)
    assert sentinels_of(url) == Sentinels(hosts=hosts, master=master)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis+sentinel://h:1,g:2", "name of the master"),
        ("redis+sentinel://h:1/m/queue", "name of the master"),
        ("redis+sentinel://h:0/m", "host:port,host:port"),
        ("redis+sentinel://h:99999/m", "host:port,host:port"),
        ("redis+sentinel://h:1,,g:2/m", "host:port,host:port"),
        ("redis+sentinel://:ge/heim@h:1/m", "%2F"),
        ("redis+sentinel://u:ge#heim@h:1/m", "%23"),
        ("redis+sentinel://user/geheim@h:1/m", "%2F"),
        ("sentinel://h:1/m", "redis+sentinel://"),
    ],
)
def test_what_is_no_such_url_is_refused_and_not_shown(url, words):
    with pytest.raises(ValueError, match="url") as caught:
        check_broker_url(url)
    assert words in str(caught.value)
    assert "heim" not in str(caught.value)


def test_a_place_is_shown_without_user_and_password():
    assert place_of("redis://u:geheim@h:7/0") == "h:7"
    assert place_of("redis://h") == "h:6379"
    assert place_of("unix://u:p@/run/v.sock") == "/run/v.sock"
    assert place_of("redis+sentinel://u:geheim@a:1,b/m/0") == "m of sentinels a:1,b"


def test_whoever_names_other_sentinels_of_the_same_master_is_the_same_installation():
    assert identity_of("redis+sentinel://a:1,b:2/m/0") == identity_of("rediss+sentinel://u:p@c/m")
    assert identity_of("redis+sentinel://a/m/0") != identity_of("redis+sentinel://a/n/0")
    assert identity_of("redis://u:p@h:1/0") == ("h", "1", "/0")


def test_files_of_tls_without_tls_and_two_passwords_are_refused(tmp_path):
    for given in (
        {"url": "redis://h/0", "ca_file": tmp_path},
        {"url": "redis+sentinel://h/m", "certificate_file": tmp_path},
        {"url": "rediss://h/0", "key_file": tmp_path},
        {"url": "redis+sentinel://h/m", "sentinel_password": "a", "sentinel_password_file": tmp_path},
    ):
        with pytest.raises(ValueError, match=r"TLS|needs certificate_file|exclude each other"):
            BrokerSettings(**given)
    assert BrokerSettings(url="rediss+sentinel://h/m", ca_file=tmp_path).ca_file == tmp_path
