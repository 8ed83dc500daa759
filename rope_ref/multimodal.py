"""Positions of text and vision in one sequence: three ids (t, h, w) a token (Qwen2-VL, arXiv 2409.12191).

A text token has the same number on all three axes, so text alone is ordinary RoPE. A vision
block counts frames, rows and columns of its own grid from where the text before it ended.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from rope_ref.positions import Positions, product, sequence, whole


class Vision(NamedTuple):
    """A block of vision tokens: `frames` x `height` x `width` patches before merging.

    interval is what one frame adds to the temporal id: 1 in Qwen2-VL; in Qwen2.5-VL
    tokens_per_second times the seconds between frames, from `time_interval`.
    """

    frames: int
    height: int
    width: int
    interval: float = 1.0


class VideoWithAudio(NamedTuple):
    """A video with the audio that was recorded with it, of so many tokens (Qwen2.5-Omni, arXiv 2503.20215: TMRoPE).

    Both begin at the same id, and their tokens take turns: those of the video whose temporal id is in the first
    `chunk` ids, then those of the audio, then those in the next. It is 50 in Qwen2.5-Omni, two seconds of 25 ids, and
    1 in Qwen3-Omni. The tokens that open and close it are text; in Qwen2.5-Omni the two that open it share one id,
    and so do the two that close it.
    """

    video: Vision
    audio: int
    chunk: int = 50


def position_ids(segments: Iterable[int | Vision | VideoWithAudio], spatial_merge_size: int = 2) -> Positions:
    """Ids (t, h, w) of a sequence of text lengths, vision blocks and videos with audio, shape (tokens, 3).

        text      t = h = w = s, s + 1, ...; audio alone too, of which a token is 40 ms
        vision    (s + trunc(interval i), s + j, s + k) over frames i, merged rows j and columns k
        both      the ids of the one and the other, in the order of floor((t - s) / chunk), vision first
        next s    1 + the largest id so far

    The last line is the paper's. transformers 5.24 adds max(height, width) / spatial_merge_size
    instead, so that after a video with larger temporal ids the text repeats numbers that the
    video already has, and after a video with audio 1 + the largest id of its last stretch. Both agree on images.

    Qwen3-VL has one block for each frame, with the text of its timestamp before it. Raises
    ValueError for negative sizes and grids that the merge does not divide.

    >>> position_ids([1, Vision(1, 4, 4), 2]).T.tolist()
    [[0, 1, 1, 1, 1, 3, 4], [0, 1, 1, 2, 2, 3, 4], [0, 1, 2, 1, 2, 3, 4]]
    >>> position_ids([VideoWithAudio(Vision(2, 2, 2, interval=2), audio=3, chunk=2)])[:, 0]
    array([0, 0, 1, 2, 2])
    """
    blocks, start = [np.zeros((0, 3), np.int64)], 0
    for segment in segments:
        block = _block(segment, spatial_merge_size)
        blocks.append(start + block)
        start += int(block.max(initial=-1)) + 1
    return np.concatenate(blocks)


def time_interval(second_per_grid: float, tokens_per_second: float) -> float:
    """tokens_per_second times the seconds between two grids of a video (Qwen2.5-VL, arXiv 2502.13923).

    second_per_grid is temporal_patch_size / fps: a fraction. Truncated to a whole number before
    the product, as has happened in released code, half a second becomes none and every frame of
    the video stands at the same time.

    Both products, here and in `position_ids`, are of float32, as in transformers 5.24, because the ids
    are truncated: at 3 frames a second and 25 tokens, frame 3 should stand at 3 (25 2/3) = 50 and
    does in float32, but at 49 in float64. Qwen2.5-Omni multiplies (i seconds) tokens instead, and
    so disagrees at 25 frames a second; where tokens_per_second is a power of two all orders agree.

    >>> position_ids([Vision(3, 2, 2, time_interval(second_per_grid=0.5, tokens_per_second=4))])[:, 0]
    array([0, 2, 4])
    """
    for name, value in (("second_per_grid", second_per_grid), ("tokens_per_second", tokens_per_second)):
        if not (np.isfinite(value) and value >= 0):
            raise ValueError(f"{name} is {value!r}; expected a number, not negative")
    return float(np.float32(tokens_per_second) * np.float32(second_per_grid))


def merge_blocks(frames: int, height: int, width: int, spatial_merge_size: int = 2) -> Positions:
    """(row, column) of patches in the order a Qwen2-VL vision tower takes them, shape (frames height width, 2).

    The patches that are merged into one token are neighbours in the sequence: blocks of
    spatial_merge_size x spatial_merge_size row by row, and row by row inside each; every frame alike.

    >>> merge_blocks(1, 2, 4).tolist()
    [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2], [0, 3], [1, 2], [1, 3]]
    """
    m = whole("spatial_merge_size", spatial_merge_size, least=1)
    rows, columns = _merged("height", height, m), _merged("width", width, m)
    cells = product(sequence(rows), sequence(columns), sequence(m), sequence(m))
    frame = cells[:, :2] * m + cells[:, 2:]
    return np.tile(frame, (whole("frames", frames), 1))


def _block(segment: int | Vision | VideoWithAudio, spatial_merge_size: int) -> Positions:
    if isinstance(segment, Vision):
        return _vision(segment, spatial_merge_size)
    if not isinstance(segment, VideoWithAudio):
        return _text(segment)
    video, audio = _vision(segment.video, spatial_merge_size), _text(segment.audio)
    both, of_audio = np.concatenate([video, audio]), np.repeat([0, 1], [len(video), len(audio)])
    chunk = both[:, 0] // whole("chunk", segment.chunk, least=1)
    return both[np.lexsort((of_audio, chunk))]


def _text(length: int) -> Positions:
    return np.repeat(sequence(length)[:, None], 3, axis=1)


def _vision(block: Vision, spatial_merge_size: int) -> Positions:
    m = whole("spatial_merge_size", spatial_merge_size, least=1)
    if not (np.isfinite(block.interval) and block.interval >= 0):
        raise ValueError(f"interval is {block.interval!r}; expected a number, not negative")
    moments = np.arange(whole("frames", block.frames), dtype=np.float32) * np.float32(block.interval)
    frames = np.trunc(moments).astype(np.int64)
    rows, columns = _merged("height", block.height, m), _merged("width", block.width, m)
    return product(frames, sequence(rows), sequence(columns))


def _merged(name: str, size: int, merge: int) -> int:
    if whole(name, size) % merge:
        raise ValueError(f"{name} is {size}; expected a multiple of spatial_merge_size {merge}")
    return size // merge
