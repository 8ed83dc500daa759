"""Who agrees with whom, and that every disagreement is explained."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

import rope_ref as rr
from tests.oracles import rounded
from tests.peers import CASES, EXPLAINED, LONG, PEERS, SEQ, STARTS, explained, judged, table, verdicts
from tests.strategies import normal

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


def by_exponentials(name, start):
    rope = CASES[name].rope
    step = np.log(np.float32(rope.theta)) / np.float32(rope.pairs)
    with mx.stream(mx.cpu):  # its own exponential, which is up to thirteen units of 2^-24 off
        inv_freq = np.array(mx.exp(mx.arange(0, -rope.pairs, -1, dtype=mx.float32) * mx.array(step)))
    rope = rr.variants.custom(64, inv_freq, pairing=rope.pairing, angle_dtype="float32")
    return rope, start + np.arange(SEQ)


def by_rounded_positions(name, start):
    return CASES[name].rope, rounded(np.arange(SEQ) + float(start), "bfloat16")


def by_length_of_the_call(name, start):
    length = max(1, start + SEQ)
    if name == "dynamic":
        rope = rr.variants.dynamic_ntk(64, 4.0, 131072, length)
    else:
        rope = rr.variants.longrope(64, **LONG, original_max_position_embeddings=4096, length=length, factor=32.0)
    return rope, start + np.arange(SEQ)


DOES = {"mlx": by_exponentials, "rotary-embedding-torch": by_rounded_positions, "transformers": by_length_of_the_call}


@pytest.mark.parametrize("peer, name, dtype, start", sorted(explained()))
def test_each_explanation_says_what_the_peer_does(peer, name, dtype, start):
    """Compared with what it is said to compute, the peer no longer differs."""
    rope, positions = DOES[peer](name, STARTS[start])
    x = rounded(normal(0, 1, 1, SEQ, 64), dtype)
    word, error = judged(PEERS[peer](CASES[name], x, STARTS[start], dtype), x, positions, rope, dtype)
    # mlx to the last rounding: far out, what float32 angles may be off hides too much
    assert word in (("exact",) if peer == "mlx" else ("exact", "float32", "half")), error
