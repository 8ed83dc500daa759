"""Positions: laws of rotation under packing, padding, grids, shards and caches, then exact oracles."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import rotary_embedding_torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.tensor.experimental._context_parallel._load_balancer import _HeadTailLoadBalancer
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniPreTrainedModelForConditionalGeneration
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLModel
from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import (
    Qwen3OmniMoePreTrainedModelForConditionalGeneration,
)
from transformers.vision_utils import get_vision_position_ids

import rope_ref as rr
from rope_ref.multimodal import VideoWithAudio, Vision, merge_blocks, position_ids, time_interval
from tests.strategies import normal, ropes, seeds

lengths = st.lists(st.integers(0, 6), min_size=1, max_size=5)
grids = st.lists(st.integers(0, 4), min_size=1, max_size=4)


def cumulative(lengths):
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


# --- one sequence, packed and padded ones -----------------------------------------------------------------


@given(st.integers(0, 9), st.integers(0, 9), st.integers(-5, 5))
def test_a_sequence_goes_on_where_it_stopped(first, second, offset):
    parts = [rr.positions.sequence(first, offset), rr.positions.sequence(second, offset + first)]
    assert np.array_equal(np.concatenate(parts), rr.positions.sequence(first + second, offset))


@given(ropes(), seeds, st.integers(1, 6), st.integers(0, 6))
def test_a_cached_step_is_the_end_of_the_whole(rope, seed, queries, past):
    x = normal(seed, past + queries, rope.head_dim)
    whole = rr.rotate(x, rr.positions.sequence(past + queries), rope)
    step = rr.rotate(x[past:], rr.positions.queries_of_cache(queries, past + queries), rope)
    assert np.array_equal(step, whole[past:])


@given(ropes(), seeds, lengths)
def test_packed_sequences_rotate_as_separate_ones(rope, seed, lengths):
    starts = cumulative(lengths)
    x = normal(seed, 2, starts[-1], rope.head_dim)
    parts = [rr.rotate(x[:, a:b], np.arange(b - a), rope) for a, b in zip(starts[:-1], starts[1:], strict=True)]
    assert np.array_equal(rr.rotate(x, rr.positions.packed(starts), rope), np.concatenate(parts, 1))


@given(ropes(), seeds, st.lists(st.integers(0, 5), min_size=1, max_size=4), st.booleans())
def test_padding_on_either_side_moves_no_token(rope, seed, lengths, left):
    longest = max(lengths)
    places = np.arange(longest)
    mask = np.stack([places >= longest - n if left else places < n for n in lengths]).astype(int)
    x = normal(seed, len(lengths), 2, longest, rope.head_dim)
    y = rr.rotate(x, rr.positions.padded(mask), rope)
    for i, n in enumerate(lengths):
        row = slice(longest - n, None) if left else slice(0, n)
        assert np.array_equal(y[i][:, row], rr.rotate(x[i][:, row], np.arange(n), rope))


def test_padding_stands_where_it_is_told():
    assert rr.positions.padded([0, 0, 1, 1], padding=0).tolist() == [0, 0, 0, 1]
    assert rr.positions.padded([1, 0, 1]).tolist() == [0, 1, 1]


# --- grids ------------------------------------------------------------------------------------------------


@given(grids, seeds)
def test_a_grid_is_every_cell_in_order(sizes, seed):
    offsets = np.random.default_rng(seed).integers(-5, 5, len(sizes)).tolist()
    cells = [tuple(np.add(cell, offsets)) for cell in np.ndindex(*sizes)]
    result = rr.positions.grid(*sizes, offsets=offsets)
    assert result.dtype == np.int64 and result.shape == (len(cells), len(sizes))
    assert list(map(tuple, result.tolist())) == cells


@given(st.lists(st.integers(1, 3), min_size=2, max_size=3), seeds, st.integers(-40, 40))
def test_scores_on_a_grid_depend_on_displacement(sizes, seed, shift):
    axes = len(sizes)
    rope = rr.variants.axial(4 * axes, (4,) * axes)
    here, there = rr.positions.grid(*sizes), rr.positions.grid(*sizes, offsets=(shift,) * axes)
    q, k = normal(seed, 2, len(here), 4 * axes)
    a, b = (rr.rotate(q, p, rope) @ rr.rotate(k, p, rope).T for p in (here, there))
    # angles stay below 43 radians, off by 2^-53 of that and a few roundings, in both factors
    assert np.abs(a - b).max() <= 8 * 43 * 2.0**-53 * np.abs(q).sum(1).max() * np.abs(k).sum(1).max()


@given(ropes(), seeds)
def test_order_of_tokens_does_not_matter(rope, seed):
    x, order = normal(seed, 7, rope.head_dim), np.random.default_rng(seed).permutation(7)
    p = rr.positions.packed([0, 3, 7])
    assert np.array_equal(rr.rotate(x[order], p[order], rope), rr.rotate(x, p, rope)[order])


@pytest.mark.parametrize("kind", ["lang", "pixel"])
@pytest.mark.parametrize("sizes, offsets", [((4,), (2,)), ((3, 5), (0, 1)), ((2, 3, 4), (1, 0, 5)), ((1, 2), (0, 0))])
def test_axial_frequencies_of_rotary_embedding_torch(kind, sizes, offsets):
    original = rotary_embedding_torch.RotaryEmbedding(dim=6, freqs_for=kind, max_freq=20)
    expected = original.get_axial_freqs(*sizes, offsets=offsets).detach().double().numpy()[..., ::2]  # each is twice
    axis = rr.frequencies.geometric(6) if kind == "lang" else rr.frequencies.pixel(6, 20)
    rope = rr.Rope(6 * len(sizes), inv_freq=rr.frequencies.block_diagonal([axis] * len(sizes)))
    make = rr.positions.grid if kind == "lang" else rr.positions.pixel_grid
    ours = rr.angles(rope, make(*sizes, offsets=offsets)).reshape(expected.shape)
    # float32: the coordinate and the frequency each off by 4 roundings (linspace, power), their product by one
    np.testing.assert_allclose(ours, expected, rtol=9 * 2.0**-24, atol=9 * 2.0**-24 * axis.max())


# --- shards -----------------------------------------------------------------------------------------------

kinds = st.sampled_from([rr.shards.contiguous, rr.shards.zigzag])


@given(kinds, st.integers(1, 5), st.integers(0, 3))
def test_ranks_share_out_every_token_once(shard, world_size, chunk):
    length = 2 * world_size * chunk
    rows = [shard(length, rank, world_size) for rank in range(world_size)]
    assert {len(r) for r in rows} == {2 * chunk}
    assert sorted(np.concatenate(rows).tolist()) == list(range(length))


@given(ropes(), seeds, kinds, st.integers(1, 3), st.lists(st.integers(0, 2), min_size=1, max_size=4))
def test_the_union_of_ranks_is_the_whole(rope, seed, shard, world_size, chunks):
    starts = cumulative([2 * world_size * n for n in chunks])
    x, p = normal(seed, 2, starts[-1], rope.head_dim), rr.positions.packed(starts)
    y = np.full_like(x, np.nan)
    for rank in range(world_size):
        rows = rr.shards.packed(shard, starts, rank, world_size)
        y[:, rows] = rr.rotate(x[:, rows], p[rows], rope)
    assert np.array_equal(y, rr.rotate(x, p, rope))


def test_shards_take_rows_of_positions_with_axes():
    rope, p = rr.variants.axial(12, (4, 4, 4)), position_ids([2, Vision(2, 2, 4), 2])
    x, y = normal(5, len(p), 12), np.full((len(p), 12), np.nan)
    for rank in range(2):
        rows = rr.shards.zigzag(len(p), rank, 2)
        y[rows] = rr.rotate(x[rows], p[rows], rope)
    assert np.array_equal(y, rr.rotate(x, p, rope))


@given(st.integers(1, 6), st.integers(1, 5))
def test_zigzag_balances_the_causal_triangle(world_size, chunk):
    work = {int((rr.shards.zigzag(2 * world_size * chunk, r, world_size) + 1).sum()) for r in range(world_size)}
    assert len(work) == 1


@pytest.mark.parametrize("world_size, chunk", [(1, 3), (2, 1), (3, 2), (4, 5)])
def test_zigzag_is_torchs_head_tail_order(world_size, chunk):
    length = 2 * world_size * chunk
    theirs = _HeadTailLoadBalancer(length, world_size, "cpu")._generate_indices().reshape(world_size, -1)
    ours = [rr.shards.zigzag(length, rank, world_size) for rank in range(world_size)]
    assert np.array_equal(ours, theirs.numpy())


def test_packed_shards_count_from_their_own_sequence():
    rows = rr.shards.packed(rr.shards.zigzag, [0, 4, 8], 0, 2)
    assert rows.tolist() == [0, 3, 4, 7]
    assert rr.positions.packed([0, 4, 8])[rows].tolist() == [0, 3, 0, 3]


# --- rolling cache ----------------------------------------------------------------------------------------


@given(st.integers(0, 30), st.integers(0, 4), st.integers(0, 6))
def test_streaming_keeps_what_a_rolling_cache_holds(length, sinks, window):
    held = []
    for token in range(length):
        held.append(token)
        if len(held) > sinks + window:
            del held[sinks]
    kept, places = rr.positions.streaming(length, sinks, window)
    assert kept.tolist() == held and places.tolist() == list(range(len(held)))


# --- text and vision --------------------------------------------------------------------------------------

merged = st.integers(1, 3).map(lambda n: 2 * n)
images = st.builds(Vision, st.just(1), merged, merged, st.just(1.0))


def of_transformers(model, segments, seconds=1.0, tokens_per_second=1):
    """Ids (tokens, 3) by the published code, for vision blocks apart from each other by at least one word."""
    kinds, grids = [], []
    for segment in segments:
        if isinstance(segment, Vision):
            kinds += [2] * (segment.frames * segment.height * segment.width // 4)
            grids.append(segment[:3])
        else:
            kinds += [0] * segment
    vision = SimpleNamespace(spatial_merge_size=2, tokens_per_second=tokens_per_second)
    self = SimpleNamespace(
        config=SimpleNamespace(vision_config=vision),
        get_vision_position_ids=partial(model.get_vision_position_ids, None),
    )
    options = {"second_per_grid_ts": torch.tensor([seconds] * len(grids))} if model is Qwen2_5_VLModel else {}
    kinds, grids = torch.tensor([kinds]), torch.tensor(grids) if grids else None
    ids, _ = model.get_rope_index(self, torch.zeros_like(kinds), kinds, video_grid_thw=grids, **options)
    return ids[:, 0].T.numpy()


@given(st.lists(st.tuples(st.integers(1, 4), images), max_size=4), st.integers(1, 3))
def test_ids_of_text_and_images_are_qwen2_vls(pairs, tail):
    segments = [s for pair in pairs for s in pair] + [tail]
    assert np.array_equal(position_ids(segments), of_transformers(Qwen2VLModel, segments))


@given(seeds, st.lists(st.integers(0, 4), max_size=3))
def test_text_alone_is_ordinary_rope(seed, texts):
    """Whichever axis a pair turns by, the three ids of a word are one number."""
    x, n = normal(seed, sum(texts), 12), sum(texts)
    plain, axis = rr.Rope(12), np.random.default_rng(seed).integers(0, 3, 6)
    split = rr.Rope(12, inv_freq=plain.omega[:, None] * (axis[:, None] == np.arange(3)))
    assert np.array_equal(rr.rotate(x, position_ids(texts), split), rr.rotate(x, np.arange(n), plain))


frame_rates = st.sampled_from([0.5, 1, 2, 3, 6, 7, 12, 24, 25, 29.97, 30, 60])


@given(st.integers(1, 4), st.integers(0, 40), merged, merged, frame_rates, st.sampled_from([1, 2, 4, 25]))
def test_ids_of_a_video_are_qwen2_5_vls(text, frames, height, width, fps, tokens_per_second):
    segments = [text, Vision(frames, height, width, time_interval(2 / fps, tokens_per_second))]
    expected = of_transformers(Qwen2_5_VLModel, segments, 2 / fps, tokens_per_second)
    assert np.array_equal(position_ids(segments), expected)


def of_omni(model, block, words, ids_per_second):
    """Ids by the published code, of words and a video with audio, the two tokens that open and close it included."""
    frames, height, width, interval = block.video
    count = frames * height * width // 4 + block.audio
    image, video, audio, sight, sound, word = range(6)
    tokens = [word] * words + [sight, sound] + [video] * (count - 1) + [audio] + [word] * 2  # content, in any order
    if frames == 0:
        tokens[words + 2 : words + 2 + count] = [audio] * count
    config = SimpleNamespace(
        image_token_id=image, video_token_id=video, audio_token_id=audio, vision_start_token_id=sight,
        audio_start_token_id=sound, position_id_per_seconds=ids_per_second,
        seconds_per_chunk=block.chunk / ids_per_second, audio_config=SimpleNamespace(n_window=50),
    )  # fmt: skip
    self = SimpleNamespace(
        config=config, spatial_merge_size=2, get_chunked_index=partial(getattr(model, "get_chunked_index", None), None),
        get_llm_pos_ids_for_vision=partial(model.get_llm_pos_ids_for_vision, None),
    )  # fmt: skip
    of_3 = model is Qwen3OmniMoePreTrainedModelForConditionalGeneration
    mel = block.audio // 13 * 100 + block.audio % 13 * 8 if of_3 else 4 * block.audio  # frames of this many tokens
    ids, _ = model.get_rope_index(
        self, torch.tensor([tokens]), None, torch.tensor([[frames, height, width]]), torch.ones(1, len(tokens)), True,
        torch.tensor([mel]), torch.tensor([interval / ids_per_second]),
    )  # fmt: skip
    return ids[:, 0].T.numpy()


@given(
    st.integers(1, 4), st.integers(1, 6), st.sampled_from([2, 4, 6]), st.sampled_from([2, 4]), st.integers(1, 40),
    st.sampled_from([1.0, 2.0, 4.0, 8.0]),
)  # fmt: skip
def test_ids_of_a_video_with_audio_are_the_omni_models(words, frames, height, width, audio, interval):
    video = Vision(frames, height, width, interval)
    for chunk, model, opened in (
        (8, Qwen2_5OmniPreTrainedModelForConditionalGeneration, 1),  # where both tokens that open it stand at one id
        (1, Qwen3OmniMoePreTrainedModelForConditionalGeneration, 2),
    ):
        block = VideoWithAudio(video, audio, chunk)
        ours = position_ids([words + opened, block])
        theirs = of_omni(model, block, words, ids_per_second=4)
        assert np.array_equal(ours[words + opened :], theirs[words + 2 : -2])


def test_float32_decides_where_a_frame_stands():
    assert position_ids([Vision(4, 2, 2, time_interval(2 / 3, 25))])[3, 0] == 50
    assert int(3 * (25 * (2 / 3))) == 49


def test_text_after_a_long_video_starts_behind_it():
    segments = [1, Vision(3, 2, 2, interval=10), 1]
    assert position_ids(segments).tolist() == [[0, 0, 0], [1, 1, 1], [11, 1, 1], [21, 1, 1], [22, 22, 22]]
    # transformers 5.24 counts rows and columns alone, and puts the text into the middle of the video
    assert of_transformers(Qwen2_5_VLModel, segments, seconds=10.0)[-1].tolist() == [2, 2, 2]


def test_fractions_of_a_second_are_kept():
    half = position_ids([Vision(4, 2, 2, time_interval(0.5, tokens_per_second=2))])
    assert half[:, 0].tolist() == [0, 1, 2, 3]
    truncated = position_ids([Vision(4, 2, 2, time_interval(int(0.5), tokens_per_second=2))])
    assert truncated[:, 0].tolist() == [0, 0, 0, 0]  # what the released bug does: a video of one moment


def test_three_different_coordinates():
    assert position_ids([5, Vision(2, 4, 6)])[-1].tolist() == [6, 6, 7]


@given(st.integers(1, 3), st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 3)), min_size=1))
def test_merge_order_is_transformers(merge, blocks):
    grids = [(t, merge * h, merge * w) for t, h, w in blocks]
    expected = get_vision_position_ids(torch.tensor(grids), merge).numpy()
    assert np.array_equal(np.concatenate([merge_blocks(*g, merge) for g in grids]), expected)


# --- bad input --------------------------------------------------------------------------------------------

P, S, M = rr.positions, rr.shards, rr.multimodal


@pytest.mark.parametrize(
    "call, options",
    [
        (lambda: P.sequence(-1), "length is -1; expected at least 0"),
        (lambda: P.sequence(2.5), "length is 2.5; expected a whole number"),
        (lambda: P.sequence(True), "length is True"),
        (lambda: P.sequence(2, offset=0.5), "offset is 0.5"),
        (lambda: P.queries_of_cache(3, 2), "queries is 3; expected at most the 2 keys"),
        (lambda: P.packed([0, 3, 2]), "never decrease"),
        (lambda: P.packed(np.array([0, 3, 2], np.uint32)), "never decrease"),
        (lambda: P.packed([1, 3]), "from 0"),
        (lambda: P.packed([]), "cu_seqlens is"),
        (lambda: P.packed([0.0, 1.0]), "cu_seqlens is"),
        (lambda: P.packed([[0, 1]]), "cu_seqlens is"),
        (lambda: P.padded([0, 2]), "attention_mask is"),
        (lambda: P.padded([0.5]), "attention_mask is"),
        (lambda: P.padded(1), "attention_mask is"),
        (lambda: P.grid(), "sizes is empty"),
        (lambda: P.grid(2, -1), "size is -1"),
        (lambda: P.grid(2, 2, offsets=(1,)), "offsets is"),
        (lambda: P.pixel_grid(2, -2), "size is -2"),
        (lambda: P.streaming(3, -1, 2), "sinks is -1"),
        (lambda: S.contiguous(7, 0, 2), "length is 7; expected a multiple of 2"),
        (lambda: S.zigzag(6, 0, 2), "length is 6; expected a multiple of 4"),
        (lambda: S.zigzag(8, 2, 2), "rank is 2; expected at most 1"),
        (lambda: S.contiguous(8, -1, 2), "rank is -1"),
        (lambda: S.zigzag(8, 0, 0), "world_size is 0"),
        (lambda: S.packed(S.zigzag, [0, 4, 6], 0, 2), "length is 2; expected a multiple of 4"),
        (lambda: S.packed(S.zigzag, [0, 4, 2], 0, 2), "never decrease"),
        (lambda: M.position_ids([-1]), "length is -1"),
        (lambda: M.position_ids([Vision(1, 3, 4)]), "height is 3; expected a multiple of spatial_merge_size 2"),
        (lambda: M.position_ids([Vision(1, 4, 5)]), "width is 5"),
        (lambda: M.position_ids([Vision(-1, 4, 4)]), "frames is -1"),
        (lambda: M.position_ids([Vision(1, 4, 4, interval=-1.0)]), "interval is -1.0"),
        (lambda: M.position_ids([VideoWithAudio(Vision(1, 4, 4), -1)]), "length is -1"),
        (lambda: M.position_ids([VideoWithAudio(Vision(1, 4, 4), 1, chunk=0)]), "chunk is 0"),
        (lambda: M.position_ids([Vision(1, 4, 4)], spatial_merge_size=0), "spatial_merge_size is 0"),
        (lambda: M.time_interval(float("nan"), 2), "second_per_grid is nan"),
        (lambda: M.merge_blocks(1, 3, 2), "height is 3"),
    ],
)
def test_bad_input_says_what_is_wrong(call, options):
    with pytest.raises(ValueError, match=options):
        call()
