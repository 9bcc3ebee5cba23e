"""Addresses, order and values of metadata services."""

from __future__ import annotations

import ipaddress

import pytest

from proctally.host.cloud import ENDPOINTS, PROBES, order, value

# -- the providers, as their services answer -------------------------------------------------------------------------


def test_every_production_address_is_that_of_a_metadata_service() -> None:
    assert ENDPOINTS.keys() == PROBES.keys()
    for host, port in ENDPOINTS.values():
        assert port == 80
        assert ipaddress.ip_address(host).is_link_local or host == "100.100.100.200"


# -- services that behave badly --------------------------------------------------------------------------------------


def test_order() -> None:
    assert order(ENDPOINTS, None) == list(ENDPOINTS)
    assert order(ENDPOINTS, "Hetzner")[0] == "hetzner"
    assert sorted(order(ENDPOINTS, "Hetzner")) == sorted(ENDPOINTS)
    assert order(ENDPOINTS, "Nobody") == list(ENDPOINTS)


@pytest.mark.parametrize("said", ["", None, True, 1.5, [], {}, "a\nb", "a\x1b[31m", "x" * 257, "\u202e"])
def test_what_is_no_value(said: object) -> None:
    assert value(said) is None


def test_values() -> None:
    assert value("eu-west-1") == "eu-west-1"
    assert value(4711) == "4711"
