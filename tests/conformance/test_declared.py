"""What may be declared of positions, queries and caches: the right one passes, and the wrong one is found."""

import itertools

import numpy as np
import pytest

import rope_ref as rr
from rope_ref.conformance import Implementation, check

ROPE = rr.variants.default(16)
EVEN = np.arange(0, 80, 2)
GRID = rr.positions.grid(6, 5)
AXIAL = rr.variants.axial(16, (8, 8))
DINOV3 = rr.CATALOGUE["dinov3"](16)


def right(x, p, rope=ROPE):
    return rr.rotate(x, p, rope).astype(x.dtype)


def judged(rope, **options):
    report = check(Implementation(arrays="numpy", dtypes=("float32",), **options), rope, budget="quick")
    return {f.bug for f in report.findings}, report


# positions that are no range


def table(places, rope, change=lambda p: p):
    """An implementation that has rows for these places alone, and raises anywhere else."""
    rows = {tuple(np.atleast_1d(place)): row for row, place in enumerate(places.tolist())}

    def apply(x, positions):
        axes = 1 if rope.axes is None else rope.axes
        flat = positions.reshape(-1, axes).tolist()
        where = places[[rows[tuple(p)] for p in flat]].reshape(positions.shape)
        return right(x, change(where), rope)

    return apply


@pytest.mark.parametrize("places, rope", [
    (EVEN, ROPE), (GRID, AXIAL), (rr.vision.dinov3_positions(6, 5), DINOV3), (EVEN + 1000, ROPE),
])  # fmt: skip
def test_valid_positions_are_all_that_is_asked(places, rope):
    found, report = judged(rope, apply=table(places, rope), valid_positions=places)
    assert not found, report
    outcomes = {o.property: o for o in report.outcomes}
    assert outcomes["agreement"].verdict == "passed"
    assert outcomes["relative position"].note == "its positions are no range"


def test_without_the_declaration_they_are_refused():
    assert judged(ROPE, apply=table(EVEN, ROPE))[0]


@pytest.mark.parametrize("places, rope, change, bug", [
    (EVEN, ROPE, lambda p: p + 1, "OFFSET"), (GRID, AXIAL, lambda p: p[..., ::-1], "AXIAL"),
    (EVEN + 1000, ROPE, lambda p: p - 1000, None),
])  # fmt: skip
def test_what_is_wrong_at_valid_positions_is_found(places, rope, change, bug):
    found, report = judged(rope, apply=table(places, rope, change), valid_positions=places)
    assert found and (bug is None or found == {bug}), report


def test_gradients_and_objects_stay_at_valid_positions():
    torch = pytest.importorskip("torch")

    def apply(x, positions):
        assert set(positions.flatten().tolist()) <= set(EVEN.tolist())
        cos, sin = (torch.from_numpy(t).float() for t in rr.tables(ROPE, positions.numpy()))
        a, b = x.float().chunk(2, -1)
        if positions.ndim == 2:
            cos, sin = cos[:, None], sin[:, None]
        return torch.cat([a * cos - b * sin, a * sin + b * cos], -1).to(x.dtype)

    report = check(apply, ROPE, budget="quick", make=lambda: apply, arrays="torch", valid_positions=EVEN)
    assert report.passed, report
    asked = {o.property: o.verdict for o in report.outcomes}
    assert asked["gradients"] == asked["calls in any order"] == "passed"


# rows with padding


def padded(start):
    """A session of rows with padding; start(count, padding) says where the tokens after so many stand in each row."""

    def make(padding):
        count = [0]

        def step(x):
            own = start(count[0] + np.arange(x.shape[-2]), np.asarray(padding)[:, None])
            count[0] += x.shape[-2]
            return right(x, np.maximum(own, 0))

        return step

    return make


def test_rows_with_padding_count_from_its_end():
    found, report = judged(ROPE, padded=padded(lambda n, padding: n - padding))
    assert not found, report
    assert [o.verdict for o in report.outcomes if o.property == "padded rows"] == ["passed"]


@pytest.mark.parametrize("start, text", [
    (lambda n, padding: n + 0 * padding, "padding is counted as if it were tokens"),
    (lambda n, padding: n - padding.max(), ""), (lambda n, padding: n - padding + 1, ""),
])  # fmt: skip
def test_padding_that_is_counted_is_found(start, text):
    found, report = judged(ROPE, padded=padded(start))
    assert found and text in report.findings[0].explanation, report


# queries that are scaled beside the rotation


def temperature(positions):
    return rr.attention.query_temperature(positions, 16, 0.5)


def scaled(q, k, q_positions, k_positions, of=temperature):
    def shaped(p):
        return of(p)[..., None] if p.ndim == 1 else of(p)[:, None, :, None]

    return (shaped(q_positions) * rr.rotate(q, q_positions, ROPE)).astype(q.dtype), right(k, k_positions)


def logits(q, k, q_positions, k_positions):
    q, k = scaled(q, k, q_positions, k_positions)
    return (q.astype(np.float64) @ k.astype(np.float64).swapaxes(-1, -2) / 4).astype(q.dtype)


def test_a_temperature_of_queries_is_no_finding_where_it_is_expected():
    declared = {"query_scale": temperature}
    found, report = judged(ROPE, apply_qk=scaled, scores=logits, expected=declared, negative=False)
    assert not found, report
    assert judged(ROPE, apply_qk=scaled, negative=False)[0]
    assert judged(ROPE, scores=logits)[0]


@pytest.mark.parametrize("wrong", [lambda p: 1.0 + 0 * p, lambda p: temperature(p + 1), lambda p: 2 * temperature(p)])
def test_a_wrong_temperature_is_found(wrong):
    found, report = judged(
        ROPE, apply_qk=lambda q, k, a, b: scaled(q, k, a, b, wrong), negative=False,
        expected={"query_scale": temperature},
    )  # fmt: skip
    assert found, report


# caches that keep fewer bits


class Cache:
    """Rotated keys as int8 with a scale for each token."""

    def __init__(self, off=0):
        self.levels, self.scales, self.count, self.off = [], [], 0, off

    def append(self, k):
        keys = rr.rotate(k, self.count + np.arange(k.shape[-2]), ROPE)
        scale = np.abs(keys).max(-1, keepdims=True) / 127
        self.levels.append(np.rint(keys / scale).astype(np.int8))
        self.scales.append(scale)
        self.count += k.shape[-2]

    def scores(self, q):
        keys = np.concatenate([n * s for n, s in zip(self.levels, self.scales, strict=True)], -2)
        return rr.rotate(q, [self.count - 1 + self.off], ROPE) @ keys.swapaxes(-1, -2) / 4


def test_keys_in_int8_are_right_where_they_are_declared():
    found, report = judged(ROPE, cache=Cache, stored="int8")
    assert not found, report
    assert judged(ROPE, cache=Cache)[0] == {"KVROT"}
    assert judged(ROPE, cache=lambda: Cache(off=1), stored="int8")[0] == {"KVROT"}


def test_what_keys_are_kept_in_is_checked():
    with pytest.raises(ValueError, match="stored is 'int4'"):
        judged(ROPE, cache=Cache, stored="int4")


def taking_turns(key):
    """position_ids of Qwen2.5-Omni, the tokens of a video and its audio in the order of key(id, 1 for audio)."""

    def position_ids(parts):
        blocks, start = [], 0
        for part in parts:
            if "text" in part:
                found = [(i, i, i) for i in range(part["text"])]
            else:
                (frames, height, width), step = part["grid"], 2 * part.get("seconds", 0.5)
                cells = itertools.product(range(frames), range(height // 2), range(width // 2))
                video = [(int(step * t), row, column) for t, row, column in cells]
                audio = [(i, i, i) for i in range(part.get("audio", 0))]
                both = [(token, 0) for token in video] + [(token, 1) for token in audio]
                found = [token for token, _ in sorted(both, key=lambda one: key(one[0][0], one[1]))]
            blocks += [[start + n for n in token] for token in found]
            start += max(map(max, found)) + 1
        return np.array(blocks)

    return Implementation(position_ids=position_ids, audio_chunk=2, arrays="numpy")


@pytest.mark.parametrize(("key", "right"), [
    (lambda t, audio: (t // 2, audio), True), (lambda t, audio: (t // 2, -audio), False),
    (lambda t, audio: audio, False), (lambda t, audio: (t, audio), False),
])  # fmt: skip
def test_a_video_and_its_audio_take_turns(key, right):
    report = check(taking_turns(key), rr.variants.mrope(128, (16, 24, 24)), budget="quick")
    assert {f.bug for f in report.findings} == (set() if right else {"MROPE"})
