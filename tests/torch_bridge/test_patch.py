"""Models of transformers, patched: the same numbers within the roundings of their own rotation, whatever they do."""

import copy
import io
import pickle
import threading

import numpy as np
import pytest
import torch
import transformers
from torch.nn.functional import cross_entropy

import rope_ref as rr
from rope_ref.exactness import UNIT, budget
from tests.torch_bridge.models import ALSO, GENERATES, TINY, build
from tests.torch_bridge.models import greedy as generated
from torch_bridge import models, patched
from torch_bridge.patch import patch, unpatch
from torch_bridge.verify import spread

IDS = torch.randint(3, 90, (2, 24), generator=torch.Generator().manual_seed(1))
every = pytest.mark.parametrize("name", TINY)
generates = pytest.mark.parametrize("name", GENERATES)
LONGROPE = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 8, "long_factor": [4.0] * 8,
            "original_max_position_embeddings": 32}  # fmt: skip
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 128}  # fmt: skip


@torch.no_grad()
def logits(model, ids=IDS, **options):
    return model(input_ids=ids, **options).logits


def greedy(model, ids=IDS[:, :8], tokens=64, **options):
    return generated(model, ids, tokens, **options)


def same_tokens(model, **options):
    before = greedy(model, **options)
    with patch(model):
        assert any(isinstance(m, patched.Patched) for m in model.modules())
        assert torch.equal(greedy(model, **options), before)


class Watch:
    """Every rotation within a patched model: what went in and what came out, kept for gradients."""

    def __init__(self, model, monkeypatch):
        self.seen = []
        for module in model.modules():
            if isinstance(module, patched.Patched):
                for name, (before, call) in patched.functions(module.original, module.exact).items():
                    watched = call._replace(ours=self.around(call.ours, name)).instead_of(before)
                    monkeypatch.setattr(f"{module.original.__module__}.{name}", watched)

    def around(self, inner, name):
        def watched(*given, **options):
            many = 1 if len(given) == 3 else 2  # q and k, or one tensor; then two tables
            out = inner(*given, **options)
            for x, y in zip(given[:many], (out,) if many == 1 else out, strict=True):
                if y.requires_grad:
                    y.retain_grad()
                    self.seen.append((name, x.detach(), y))
            return out

        return watched


@every
def test_logits_move_by_no_more_than_the_rounded_angles_of_the_original(name, monkeypatch):
    """In float64 nothing else differs, so to first order a logit moves by at most the sum of |dlogit/dy| budget(x)."""
    model = build(name, torch.float64)
    before = logits(model)
    patch(model)
    exact = next(m.exact for m in model.modules() if isinstance(m, patched.Patched))
    watch = Watch(model, monkeypatch)
    after = model(input_ids=IDS).logits
    moved = (before - after.detach()).abs()
    assert (moved.max() > 0) == (name != "gptj")  # whose own tables are of float64 in a model of float64
    for place in torch.topk(moved.flatten(), 4).indices:
        grads = torch.autograd.grad(after.flatten()[place], [y for *_, y in watch.seen], retain_graph=True)
        bound, layers = 0.0, model.config.get_text_config().num_hidden_layers
        for number, ((function, x, _), grad) in enumerate(zip(watch.seen, grads, strict=True)):
            layer = number * layers // len(watch.seen)
            bound += float((grad.abs().numpy() * errors(exact, model, layer, function, x.numpy())).sum())
        # second-order terms are a millionth of these
        assert moved.flatten()[place] <= 1.001 * bound


def errors(exact, model, layer, function, x):
    """How far the original's rotation of x may be from ours: see `verify` for its angles, times 2 for cos and sin."""
    rope = rr.from_config(model.config, layer)
    rope = rr.Rope(2 * rope.pairs, inv_freq=rope.inv_freq if rope.axes else rope.omega, pairing=rope.pairing,
                   attention_scale=rope.attention_scale)  # fmt: skip
    rotary = next(m for m in model.modules() if isinstance(m, patched.Patched))
    call = patched.functions(rotary.original, exact)[function][1]
    late = call.takes == models.LAST  # heads after seq
    x = np.swapaxes(x, 1, 2) if late else x
    head, rest = x[..., : rope.head_dim], np.zeros_like(x[..., rope.head_dim :])
    places = spread(torch.arange(x.shape[-2])[None], rope)
    angle = rr.angles(rope, places) * 27 * UNIT["float32"] + 8 * UNIT["float32"]
    e = budget(head, places, rope, store="float64", arithmetic="float64", table="float32", angle=angle)
    e = e[..., np.concatenate(rr.pairing.channels("interleaved", rope.pairs))] if call.sorts else e
    e = np.concatenate([e, rest], -1)
    return np.swapaxes(e, 1, 2) if late else e


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_patched_model_is_as_near_to_the_exact_one(name, dtype):
    """Both models round alike but for the rotation, where ours rounds less. The median of 4,608 errors is known to a
    few percent; the largest is not comparable, since a mixture of experts may choose others after a rounding."""
    exact = build(name, torch.float64)
    model = build(name, dtype)
    for ours, theirs in zip(exact.parameters(), model.parameters(), strict=True):
        ours.data.copy_(theirs.data)  # weights that the dtype can hold
    patch(exact)
    right = logits(exact)
    before = (logits(model).double() - right).abs().median()
    with patch(model):
        assert (logits(model).double() - right).abs().median() <= 1.1 * before


@generates
def test_greedy_tokens(name):
    same_tokens(build(name))


@every
def test_unpatched_logits_are_restored_to_the_bit(name):
    model = build(name)
    before, classes = logits(model), [type(m) for m in model.modules()]
    with patch(model) as same:
        assert same is model
        with unpatch(model):
            assert torch.equal(logits(model), before)
        assert not torch.equal(logits(model), before)
    assert [type(m) for m in model.modules()] == classes
    assert torch.equal(logits(model), before)
    patch(model)
    patch(model)
    unpatch(model)
    assert not any("exact" in vars(m) for m in model.modules())
    assert torch.equal(logits(model), before)


@pytest.mark.in_turn
@pytest.mark.parametrize("name", ALSO)
def test_a_family_that_is_a_copy_of_another_turns_as_it_did(name):
    """Logits in float64 differ by angles of float32 alone; see above for how far one may be off."""
    model = build(name, torch.float64)
    before = logits(model)
    with patch(model):
        after = logits(model)
    assert 0 < (after - before).abs().max() < 1e-3 * before.abs().max()
    assert torch.equal(logits(model), before)


def test_a_patch_within_a_patch_leaves_it_as_it_was():
    model = build("llama")
    patch(model)
    inside = logits(model)
    with patch(model):
        assert torch.equal(logits(model), inside)
    assert torch.equal(logits(model), inside)
    with pytest.raises(RuntimeError, match="stop"), unpatch(model):
        raise RuntimeError("stop")
    assert torch.equal(logits(model), inside)


@every
def test_another_model_of_the_class_stays_as_it_is(name):
    model, other = build(name), build(name)
    before = logits(other)
    patch(model)
    assert torch.equal(logits(other), before)
    assert not any(isinstance(m, patched.Patched) for m in other.modules())


@generates
@pytest.mark.parametrize("cache", ["static", "none"])  # dynamic ones are the default
def test_caches(name, cache):
    options = {"use_cache": False} if cache == "none" else {"cache_implementation": cache} if cache == "static" else {}
    same_tokens(build(name), tokens=12, **options)


@generates
def test_left_padding_and_batches_of_different_lengths(name):
    ids, mask = IDS[:, :12].clone(), torch.ones(2, 12, dtype=torch.int64)
    ids[0, :5], mask[0, :5] = 0, 0
    model = build(name)
    same_tokens(model, ids=ids, attention_mask=mask, tokens=12)
    with patch(model):
        alone = greedy(model, ids[:1, 5:], tokens=12)
        assert torch.equal(greedy(model, ids, attention_mask=mask, tokens=12)[0, 5:], alone[0])


@generates
def test_beams(name):
    same_tokens(build(name), num_beams=3, tokens=12)


@generates
def test_assisted_decoding(name):
    kinds = {"layer_types": ["full_attention"]} if "layer_types" in TINY[name] else {}
    model, assistant = build(name), build(name, num_hidden_layers=1, **kinds)
    alone = greedy(model, IDS[:1, :8], tokens=24)
    patch(model)
    assert torch.equal(greedy(model, IDS[:1, :8], tokens=24, assistant_model=assistant), alone)
    patch(assistant)
    assert torch.equal(greedy(model, IDS[:1, :8], tokens=24, assistant_model=assistant), alone)


@generates
def test_a_cache_can_be_handed_over(name):
    """Rotated keys are laid out as the original lays them out."""
    model = build(name)
    options = {"cache": transformers.DynamicCache(config=model.config.get_text_config()), "use_cache": True}
    before = logits(model)
    with patch(model):
        logits(model, IDS[:, :16], **options)
    after = torch.stack([logits(model, IDS[:, i : i + 1], **options)[:, 0] for i in range(16, 24)], 1)
    torch.testing.assert_close(after, before[:, 16:], rtol=0, atol=2e-4 * float(before.abs().max()))


@generates
@pytest.mark.parametrize("checkpointing", [False, True])
def test_one_training_step(name, checkpointing):
    """Gradients of both move by the roundings of one pass, which grow through two layers: the same scale as logits."""
    grads = []
    for use in (False, True):
        model = build(name).train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        if use:
            patch(model)
        out = model(input_ids=IDS, use_cache=False).logits
        cross_entropy(out[:, :-1].flatten(0, 1), IDS[:, 1:].flatten()).backward()
        grads.append({key: p.grad for key, p in model.named_parameters() if p.grad is not None})
        torch.optim.SGD(model.parameters(), lr=0.1).step()
        assert torch.isfinite(logits(model)).all()
    assert grads[0].keys() == grads[1].keys()
    for key, before in grads[0].items():
        assert (grads[1][key] - before).abs().max() <= 1e-3 * before.abs().max() + 1e-7, key


@every
def test_a_copy_is_patched_and_its_own(name):
    model = build(name)
    before = logits(model)
    patch(model)
    inside = logits(model)
    for made in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(logits(made), inside)
        unpatch(made)
        assert torch.equal(logits(made), before)
    assert torch.equal(logits(model), inside)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    assert torch.equal(logits(torch.load(file, weights_only=False)), inside)


@every
def test_a_cast_after_patching_does_not_reach_the_tables(name):
    model, other = build(name), build(name)
    patch(model).model.to(torch.bfloat16).to(torch.float64)
    for mine, theirs in zip(other.parameters(), model.parameters(), strict=True):
        mine.data = theirs.data
    for mine, theirs in zip(other.buffers(), model.buffers(), strict=True):
        if mine.shape == theirs.shape and not any(mine is b for m in other.modules() if "Rotary" in type(m).__name__
                                                  for b in m.buffers()):  # fmt: skip
            mine.data = theirs.data
    patch(other)
    assert torch.equal(logits(model), logits(other))
    unpatch(model), unpatch(other)
    assert not torch.equal(logits(model), logits(other))  # the original's frequencies were rounded


def routed(name):
    """Whether tokens choose their experts, which nobody can follow without numbers."""
    return name in ("mixtral", "deepseek_v3", "gpt_oss")


@every
def test_a_patched_model_moves_to_another_device_and_back(name):
    """To one without memory even, after which buffers hold anything: tables follow from the config alone."""
    model = build(name)
    patch(model)
    before, weights = logits(model), model.state_dict()
    model.to("meta")
    if not routed(name):
        after = logits(model, IDS.to("meta"))
        assert after.is_meta and after.shape == before.shape and after.dtype == before.dtype
    model.to_empty(device="cpu")
    lost = {key: b for key, b in build(name).named_buffers() if key not in weights and "rotary" not in key}
    model.load_state_dict(weights | lost, strict=False)
    for key, buffer in model.named_buffers():
        if "rotary" in key:
            buffer.fill_(torch.nan)
        elif key in lost:
            buffer.copy_(lost[key])
    assert torch.equal(logits(model), before)


def test_a_cast_before_patching_is_seen_through():
    model = build("llama", torch.bfloat16)
    with patch(model):
        right = logits(model)
    patch(model.to(torch.float16).to(torch.bfloat16))
    assert torch.equal(logits(model), right)


def test_an_edit_of_what_has_no_part_in_the_tables():
    """Which layers take which of them is read from the config at every call, by the original and so by ours."""
    logits_of = {}
    for use in (False, True):
        model = build("gemma3_text", torch.float64)
        if use:
            patch(model)
        before = logits(model)
        model.config.layer_types = ["full_attention", "full_attention"]
        logits_of[use] = logits(model)
        assert (logits_of[use] - before).abs().max() > 0.01
    torch.testing.assert_close(logits_of[True], logits_of[False], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "gptj"])
def test_a_config_edited_after_patching(name):
    model = build(name)
    patch(model)
    if name == "gptj":
        model.config.rotary_dim = 4
    else:
        given = model.config.rope_parameters
        given.get("full_attention", given)["rope_theta"] = 5e5
    with pytest.raises(ValueError, match="(rope_parameters|rotary_dim) changed since the model was patched"):
        logits(model)
    unpatch(model)
    if name != "gptj":
        with pytest.raises(ValueError, match="as it was, does not rotate as its config says: at position"):
            patch(model)


@pytest.mark.parametrize("parameters", [LONGROPE, DYNAMIC, LLAMA3], ids=["longrope", "dynamic", "llama3"])
def test_frequencies_that_depend_on_the_length(parameters):
    """Short, long, and short again: dynamic NTK and LongRoPE judge the length as the original does."""
    changes = {"rope_parameters": parameters, "max_position_embeddings": 32}
    old, new = build("llama", **changes), build("llama", **changes)
    patch(new)
    ids = torch.randint(3, 90, (1, 80), generator=torch.Generator().manual_seed(2))
    for length in (20, 70, 40, 80, 33, 32, 10, 50):
        before, after = logits(old, ids[:, :length]), logits(new, ids[:, :length])
        torch.testing.assert_close(after, before, rtol=0, atol=2e-4 * float(before.abs().max()))
    assert torch.equal(greedy(old, ids[:, :24], tokens=20), greedy(new, ids[:, :24], tokens=20))
    with unpatch(new):
        pass
    patch(old)  # goes on where it was
    assert torch.equal(logits(old, ids[:, :33]), logits(new, ids[:, :33]))


def test_images():
    """M-RoPE with three different axes, and no vision tower touched."""
    for name in ("qwen2_vl", "qwen2_5_vl"):
        model = build(name)
        ids = torch.cat([IDS[:1, :4], torch.tensor([[92, *[90] * 4, 93]]), IDS[:1, 4:8]], 1)
        options = {"pixel_values": torch.randn(16, 3 * 2 * 4 * 4, generator=torch.Generator().manual_seed(3)),
                 "image_grid_thw": torch.tensor([[1, 4, 4]]), "mm_token_type_ids": (ids == 90).int()}  # fmt: skip
        before = logits(model, ids, **options)
        flat = logits(model, ids, **options, position_ids=torch.arange(ids.shape[1]).expand(3, 1, -1))
        assert (before - flat).abs().max() > 0.01  # the axes do differ
        with patch(model):
            after = logits(model, ids, **options)
            assert type(model.model.visual.rotary_pos_emb).__name__.endswith("VisionRotaryEmbedding")
        torch.testing.assert_close(after, before, rtol=0, atol=2e-4 * float(before.abs().max()))


@pytest.mark.in_turn
@pytest.mark.parametrize("name", ["llama", "gemma3_text", "qwen2_vl", "gptj", "deepseek_v3"])
def test_the_compiler(name):
    """The whole graph, one compilation for every length, and a patch that a compiled model sees come and go."""
    torch._dynamo.reset()
    model = build(name)
    if name == "deepseek_v3":
        model.set_experts_implementation("grouped_mm")  # the plain loop over experts breaks the graph
    compiled = torch.compile(model, backend="eager", fullgraph=True, dynamic=True)
    before = logits(compiled)
    assert torch.equal(before, logits(model))
    with patch(model):
        inside = logits(model)
        assert torch.equal(logits(compiled), inside) and not torch.equal(inside, before)
        with torch._dynamo.config.patch(error_on_recompile=True):
            for length in (20, 13, 9):  # below the window of 8, transformers takes another way
                ids = IDS[:, :length].contiguous()
                assert torch.equal(logits(compiled, ids), logits(model, ids))
    assert torch.equal(logits(compiled), before)
    torch._dynamo.reset()


def test_what_is_not_known_is_refused():
    bert = transformers.BertModel(transformers.BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                                                          intermediate_size=32, vocab_size=32))  # fmt: skip
    with pytest.raises(ValueError, match=r"BertModel of transformers 5.* \(model_type 'bert'; rotary modules: none"):
        patch(bert)
    with pytest.raises(ValueError, match="falcon rotates"):
        patch(build("falcon", alibi=True))


def test_what_would_be_half_a_patch_is_refused():
    model = build("llama")
    model.model.rotary_emb.forward = model.model.rotary_emb.forward
    with pytest.raises(ValueError, match="LlamaRotaryEmbedding has a forward of its own"):
        patch(model)


def test_a_model_without_memory_is_verified_when_it_has_some():
    for theta, right in ((1e4, True), (2e4, False)):
        with torch.device("meta"):
            model = transformers.LlamaForCausalLM(build("llama").config)
        patch(model)
        filled = build("llama", rope_parameters={"rope_type": "default", "rope_theta": theta})
        model.to_empty(device="cpu").load_state_dict(filled.state_dict())
        model.model.rotary_emb.inv_freq.copy_(filled.model.rotary_emb.inv_freq)
        if not right:
            with pytest.raises(ValueError, match="as it was, does not rotate as its config says"):
                logits(model)
            continue
        patch(filled)
        assert torch.equal(logits(model), logits(filled))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_defaults_of_torch_are_not_asked(dtype):
    model = build("llama")
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        patch(model)
        unpatch(model)
    finally:
        torch.set_default_dtype(before)
    with torch.device("meta"):
        patch(model)
    assert torch.isfinite(logits(model)).all()


def test_hooks_are_neither_copied_nor_run_by_patching():
    model, seen, lock = build("llama"), [], threading.Lock()
    rotary = model.model.rotary_emb
    rotary.register_forward_hook(lambda module, given, tables: seen.append(lock.locked()))
    patch(model)
    assert not seen
    logits(model)
    assert seen == [False]


def test_a_module_made_of_a_patched_class_is_one_of_the_original():
    model = build("llama")
    rotary = model.model.rotary_emb
    before = rotary(torch.zeros(1), IDS[:1])
    patch(model)
    again = type(rotary)(model.config)
    for other in (again, copy.deepcopy(again)):
        for ours, theirs in zip(other(torch.zeros(1), IDS[:1]), before, strict=True):
            assert torch.equal(ours, theirs)


def test_whoever_does_not_look_for_exact_tables_gets_those_of_the_original():
    """A layer of one's own, a hook that makes new tensors, and a model that is unpatched between two layers."""
    model = build("llama")
    before = logits(model)
    hook = model.model.rotary_emb.register_forward_hook(lambda module, given, out: tuple(t.clone() for t in out))
    with patch(model):
        assert torch.equal(logits(model), before)
        hook.remove()
        inside = logits(model)
        assert not torch.equal(inside, before)
        for layer in model.model.layers:
            layer.self_attn.forward = layer.self_attn.forward  # as whoever wraps it does
        assert torch.equal(logits(model), inside)
        hook = model.model.layers[1].register_forward_pre_hook(lambda module, given: unpatch(model) and None)
        assert torch.equal(logits(model), inside)  # its tables are on their way
        hook.remove()
    assert torch.equal(logits(model), before)


def test_it_checks_itself(monkeypatch):
    """Frequencies that a config does not say, and a table that says the wrong pairing, both leave a model as it was."""
    model = build("qwen3")
    model.model.rotary_emb.inv_freq[5] *= 1.001
    classes = [type(m) for m in model.modules()]
    with pytest.raises(ValueError, match=r"qwen3, as it was, does not rotate as its config says: at position 100 .*"):
        patch(model)
    assert [type(m) for m in model.modules()] == classes
    call = models.Call(models.half_split, "interleaved")
    monkeypatch.setattr(models, "CALLS", (("apply_rotary_pos_emb", call),))
    with pytest.raises(ValueError, match="llama of transformers 5.* turns half-split pairs; expected apply_"):
        patch(build("llama"))
    with pytest.raises(ValueError, match="our apply_rotary_pos_emb of cohere, does not rotate as its config says"):
        patch(build("cohere"))


def test_weights_and_names_stay():
    model = build("llama")
    names, state = [n for n, _ in model.named_modules()], dict(model.state_dict())
    with patch(model):
        assert [n for n, _ in model.named_modules()] == names
        assert model.state_dict().keys() == state.keys()
        attention = model.model.layers[0].self_attn
        assert isinstance(attention, type(build("llama").model.layers[0].self_attn))
        out = model(input_ids=IDS, output_attentions=True, output_hidden_states=True)
        assert len(out.hidden_states) == 3
