"""Who agrees with whom, and that every disagreement is explained."""

from pathlib import Path

import pytest

from tests.peers import EXPLAINED, PEERS, explained, table, verdicts

PAGE = Path(__file__).parents[1] / "docs" / "peers.md"


@pytest.fixture(scope="module")
def found():
    return verdicts()


def test_every_disagreement_is_explained_and_every_explanation_needed(found):
    assert {where for where, (word, _) in found.items() if word in ("differs", "raises")} == explained()


def test_our_own_are_exact(found):
    words = {word for (peer, *_), (word, _) in found.items() if peer in ("numba_kernels", "torch_bridge")}
    assert words == {"exact", "absent"}


def test_every_peer_is_judged_on_something(found):
    for peer in PEERS:
        assert any(word != "absent" for (name, *_), (word, _) in found.items() if name == peer)


def test_the_page_shows_this_table(found):
    print(table(found))
    page = PAGE.read_text()
    assert table(found) in page
    assert all(why in page for *_, why in EXPLAINED)
