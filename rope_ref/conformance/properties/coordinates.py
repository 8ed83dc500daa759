"""Positions that an implementation makes itself: of text and vision in one sequence, and of a grid of patches."""

from functools import partial
from typing import Any

import numpy as np
from hypothesis import strategies as st

from rope_ref import video, vision
from rope_ref.conformance.adapters.arrays import Array, numbers
from rope_ref.conformance.adapters.calling import Failed
from rope_ref.conformance.adapters.capabilities import Facts
from rope_ref.conformance.adapters.probes import Probe
from rope_ref.conformance.adapters.subject import Deviation, Subject
from rope_ref.conformance.properties.property import Case, Trial, failed
from rope_ref.multimodal import VideoWithAudio, Vision, position_ids
from rope_ref.positions import grid
from rope_ref.rope import Rope

GRIDS: dict[str, Any] = {
    "eva02": vision.eva02_positions, "dinov3": vision.dinov3_positions, "llama4": vision.llama4_positions,
    "flux": video.flux_positions,
}  # fmt: skip


def same_positions(found: Array, expected: Array, bug: str) -> Trial:
    if found.shape != expected.shape:
        text = f"positions have shape {found.shape}; expected {expected.shape}"
        return Trial(Deviation(text), (), bug, text)
    wrong = np.argwhere(np.abs(found - expected) > 1e-3)
    if not len(wrong):
        return Trial(None)
    token, axis = wrong[0]
    text = f"token {token} stands at {found[token].tolist()}; expected {expected[token].tolist()} (axis {axis})"
    return Trial(Deviation(text, float(np.abs(found - expected).max())), (), bug, text)


def ids(subject: Subject, adapter: str, case: Case) -> Trial:
    listed = [_part(probe) for probe in case]
    usual = partial(positions_of, subject.rope, chunk=subject.implementation.audio_chunk)
    own = subject.implementation.expected.get("position_ids", usual)
    try:
        raw = subject.call(subject.implementation.position_ids, listed)
        found = subject.call(numbers, raw)
    except Failed as error:
        return failed(error)
    trial = same_positions(found, np.asarray(own(listed), np.float64), "MROPE")
    return trial._replace(text=f"{trial.text}, for {listed}") if trial.deviation else trial


def positions_of(rope: Rope, listed: list[dict[str, Any]], chunk: int | None = None) -> Array:
    """What `position_ids` should give; frames are images of their own where the axes take turns (Qwen3-VL).

    chunk: of videos with audio, None where there are none; then frames are never apart (Qwen3-Omni)
    """
    apart = chunk is None and rope.axes == 3 and np.argmax(rope.omega[:3] != 0, -1).tolist() == [0, 1, 2]
    segments: list[int | Vision | VideoWithAudio] = []
    for part in listed:
        if "text" in part:
            segments.append(part["text"])
            continue
        frames, height, width = part["grid"]
        video = Vision(frames, height, width)._replace(interval=2 * part.get("seconds", 0.5))
        if "audio" in part and chunk is not None:
            segments.append(VideoWithAudio(video, part["audio"], chunk))
        elif apart:
            segments += [Vision(1, height, width)] * frames
        else:
            segments.append(video)
    return position_ids(segments)


def _part(probe: Probe) -> dict[str, Any]:
    """Text or a grid, as the positions of a probe: (length,) or (t, h, w, quarters of a second a frame, audio)."""
    p = probe.where.tolist()
    if len(p) == 1:
        return {"text": int(p[0])}
    more = ({"seconds": p[3] / 4} if p[3] else {}) | ({"audio": int(p[4])} if p[4] else {})
    return {"grid": tuple(int(n) for n in p[:3])} | more


def segments(subject: Subject, facts: Facts) -> st.SearchStrategy[Case]:
    text = st.integers(1, 4).map(lambda n: Probe(1, 1, (n,)))
    vision = st.tuples(
        st.sampled_from([1, 1, 2, 3]),
        st.sampled_from([4, 2, 6]),
        st.sampled_from([6, 2, 4]),
        st.sampled_from([0, 1, 2, 4, 6]),
        st.sampled_from([0, 1, 3, 5] if subject.implementation.audio_chunk else [0]),
    ).map(lambda p: Probe(1, 1, p))
    return st.lists(text | vision, min_size=1, max_size=4).map(tuple)


def patches(subject: Subject, adapter: str, case: Case) -> Trial:
    height, width = (int(n) for n in case[0].where)
    try:
        found = subject.call(numbers, subject.call(subject.implementation.grid, height, width))
    except Failed as error:
        return failed(error)
    make = subject.rope.origin.make.__name__ if subject.rope.origin else ""
    own = subject.implementation.expected.get("grid", GRIDS.get(make, grid))
    expected = np.asarray(own(height, width), np.float64)
    trial = same_positions(found, expected, "AXIAL")
    if trial.deviation and found.shape == expected.shape and np.array_equal(found, expected[:, ::-1]):
        return trial._replace(text="rows and columns are exchanged")
    if trial.deviation and np.array_equal(found, grid(width, height)):
        return trial._replace(text="the grid has height and width exchanged")
    return trial._replace(text=f"{trial.text}, in {height} x {width} patches") if trial.deviation else trial


def sizes(subject: Subject, facts: Facts) -> st.SearchStrategy[Case]:
    return st.tuples(st.integers(1, 6), st.integers(1, 6)).map(lambda p: (Probe(1, 1, p),))
