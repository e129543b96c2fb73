from __future__ import annotations

from typing import Any

import pytest

from api.cluster.settings import ClusterSettings
from api.errors import SettingsError
from api.settings import ServeSettings
from retrieval.share import Share

SECRET = "0123456789abcdef"


def test_a_server_holds_everything_unless_it_is_told_otherwise() -> None:
    assert ServeSettings.load().cluster.role == "whole"


def test_a_node_has_a_share_and_a_router_addresses() -> None:
    node = ClusterSettings.model_validate({"share": "2/8", "secret": SECRET})
    router = ClusterSettings.model_validate(
        {"nodes": ["http://a{part}:1/", "https://b{part}"], "parts": 3, "secret": SECRET}
    )
    assert (node.role, node.held) == ("node", Share(2, 8))
    assert (router.role, router.addresses(2)) == ("router", ["http://a2:1", "https://b2"])


def test_a_secret_of_a_file_may_end_with_a_line_end_and_is_not_shown() -> None:
    node = ClusterSettings.model_validate({"share": "0/1", "secret": f"{SECRET}\n"})
    assert node.credential == SECRET
    assert SECRET not in repr(ServeSettings.load(cluster={"share": "0/1", "secret": SECRET}))


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        ({"share": "8/8", "secret": SECRET}, "cluster.share: expected a part and of how many"),
        ({"share": "0/2"}, "'secret' of at least 16"),
        ({"share": "0/2", "secret": "short"}, "'secret' of at least 16"),
        ({"share": "0/2", "secret": "ein-geheimnis-mit-ü-lang"}, "ASCII"),
        ({"share": "0/2", "secret": "two words and some more"}, "without blanks"),
        ({"share": "0/2", "nodes": ["http://a"], "secret": SECRET}, "not both"),
        ({"parts": 4}, "'parts' is for a router"),
        ({"nodes": ["http://a"], "parts": 2, "secret": SECRET}, r"write \{part\}"),
        ({"nodes": ["a{part}:80"], "parts": 2, "secret": SECRET}, "expected an address"),
        ({"shares": "0/2"}, "did you mean 'share'"),
    ],
)
def test_a_mistake_is_told_with_what_to_do(cluster: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        ServeSettings.load(cluster=cluster)
