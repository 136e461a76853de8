"""The ports of the embedded servers: those of the last run, where they are free."""

from __future__ import annotations

from cli.embedded.ports import another_port, choose_ports, is_free, listen

NAMES = ("nats-server", "bucket")


def test_the_ports_of_the_last_run_are_used_again() -> None:
    """Presigned URLs stay valid over a restart."""
    first = choose_ports(NAMES, {})
    assert len(set(first.values())) == len(NAMES)
    assert choose_ports(NAMES, first) == first


def test_a_port_is_free_on_the_address_of_clients_too() -> None:
    last_time = choose_ports(NAMES, {})
    with listen("127.0.0.2", last_time["bucket"]):
        assert choose_ports(NAMES, last_time) == last_time
        again = choose_ports(NAMES, last_time, "127.0.0.2")
        assert again["nats-server"] == last_time["nats-server"]
        assert again["bucket"] != last_time["bucket"]


def test_another_port_is_found_after_the_last() -> None:
    for taken in (65_535, 65_534):
        other = another_port(taken)
        assert 1024 <= other < 65_536
        assert is_free(other)
