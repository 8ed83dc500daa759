"""The command that generates with a model before and after it is patched, and the benchmark's timing."""

import pytest
import torch

from benchmarks import models as benchmark
from rope_ref.cli import main
from tests.torch_bridge.models import build
from torch_bridge.patched import Patched


def test_without_a_folder(capsys):
    assert main(["generate", "--tokens", "8"]) == 0
    out = capsys.readouterr().out
    assert "LlamaForCausalLM, 4.94 million parameters, float32\n32 tokens given, 8 generated" in out
    assert out.count("tokens/s") == 2 and out.count("#" * 40) == 1 and "tokens     equal, all 8" in out


@pytest.mark.in_turn
def test_by_context_and_by_path(capsys):
    assert main(["generate", "--tokens", "4", "--context", "8", "--context", "700", "-v"]) == 0
    out = capsys.readouterr().out
    assert out.count("equal, all 4") == 2 and "700 tokens given" in out
    assert "24 x LlamaAttention: few numbers" in out and "24 x LlamaAttention: attend" in out


def test_without_end(capsys):
    assert main(["generate", "--tokens", "90", "--context", "70", "--window", "40", "--sinks", "2"]) == 0
    assert "the 2 first and 40 latest kept" in capsys.readouterr().out


def test_with_a_folder(tmp_path, capsys):
    build("qwen3").save_pretrained(tmp_path)
    assert main(["generate", str(tmp_path), "--tokens", "4", "--dtype", "bfloat16"]) == 0
    assert "Qwen3ForCausalLM" in capsys.readouterr().out


@pytest.mark.parametrize("given, message", [
    (["nowhere"], "folder is 'nowhere'; expected one that holds a config.json"),
    (["--tokens", "0"], "tokens is 0; expected at least 1"),
    (["--context", "0"], "context is 0; expected at least 1"),
    (["--window", "0"], "window is 0; expected at least 1"),
    (["--context", "5", "--prompt", "Once", "somewhere"], "prompt is given beside a context"),
    (["--prompt", "Once"], "prompt is given without a folder"),
])  # fmt: skip
def test_wrong_usage(given, message, capsys):
    assert main(["generate", *given]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("task", [benchmark.prefill, benchmark.decode])
def test_the_benchmark_times_what_rotates_and_leaves_the_model_alone(task):
    model = build("llama")
    for figure in benchmark.measure(model, task, 64, rounds=1):
        assert 0 < figure.rotation < figure.total and figure.speed > 0
    assert not any(isinstance(m, Patched) or "forward" in vars(m) for m in model.modules())
    ids = torch.arange(3, 9)[None]
    with benchmark.timed(model) as taken:
        model(input_ids=ids)
    assert len(taken) == 1 + 2  # tables once, then each layer
