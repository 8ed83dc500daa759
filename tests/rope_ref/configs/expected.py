"""Work out, at 50 digits, what the models in this folder rotate by: run it to write expected/*.json.

Each line of `MODELS` states in the terms of the papers what a model does, written down by hand
and not read from its config. It shares no code with the package that is tested against it.
"""

import json
from pathlib import Path

from mpmath import ceil, floor, log, mp, mpf, pi, sqrt

mp.dps = 50


def plain(width, theta=10000):
    return [mpf(theta) ** (-mpf(2 * i) / width) for i in range(width // 2)]


def llama3(w, factor, low, high, length):
    """Three bands of wavelengths, as the Llama 3.1 model code has them."""
    out = []
    for f in w:
        wavelength = 2 * pi / f
        if wavelength < mpf(length) / high:
            out.append(f)
        elif wavelength > mpf(length) / low:
            out.append(f / factor)
        else:
            smooth = (length / wavelength - low) / (mpf(high) - low)
            out.append((1 - smooth) * f / factor + smooth * f)
    return out


def yarn(width, theta, factor, length, fast=32, slow=1, truncate=True):
    def pair(turns):
        return width * log(mpf(length) / (turns * 2 * pi)) / (2 * log(mpf(theta)))

    low, high = pair(fast), pair(slow)
    if truncate:
        low, high = floor(low), ceil(high)
    low, high = max(low, mpf(0)), min(high, mpf(width - 1))
    high += mpf("0.001") if low == high else 0  # a step, as the specification has it
    ramp = [min(max((i - low) / (high - low), mpf(0)), mpf(1)) for i in range(width // 2)]
    return [f / factor * r + f * (1 - r) for f, r in zip(plain(width, theta), ramp, strict=True)]


def divided(w, factors):
    return [f / mpf(x) for f, x in zip(w, factors, strict=True)]


def times(w, factor):
    return [f / factor for f in w]


def sections(*sizes):
    return [axis for axis, size in enumerate(sizes) for _ in range(size)]


def turns(pairs, h, w):
    return [1 if i % 3 == 1 and i < 3 * h else 2 if i % 3 == 2 and i < 3 * w else 0 for i in range(pairs)]


def case(layers, head_dim, w, *, pairing="half-split", start=0, scale=1, axes=None, length=None):
    return dict(layers=list(layers), head_dim=head_dim, w=w, pairing=pairing, start=start, scale=mpf(scale), axes=axes,
                length=length)  # fmt: skip


def others(n, layers, last):
    """Layers that are, or are not, the last of each group of n."""
    return [i for i in range(layers) if ((i + 1) % n == 0) == last]


def still(layers, head_dim):
    return case(layers, head_dim, [])


PAIRS = "interleaved"
LONGROPE = sqrt(1 + log(mpf(32)) / log(mpf(4096)))
PHI_3 = json.loads(Path(__file__).with_name("phi-3-vision-128k.json").read_text())["config"]["rope_scaling"]
PHI_4 = json.loads(Path(__file__).with_name("phi-4-mini.json").read_text())["config"]["rope_scaling"]


def yarn_scale(factor, mscale=1):
    return mpf("0.1") * mscale * log(mpf(factor)) + 1


def whole(layers, head_dim, theta=10000, **options):
    return [case(range(layers), head_dim, plain(head_dim, theta), **options)]


def part(layers, head_dim, width, theta=10000, **options):
    return [case(range(layers), head_dim, plain(width, theta), **options)]


def bands(layers, head_dim, theta, factor, **options):
    return [case(layers, head_dim, llama3(plain(head_dim, theta), factor, 1, 4, 8192), **options)]


MODELS = {
    "llama-2-7b": whole(32, 128),
    "llama-3-8b": whole(32, 128, 500000),
    "llama-3.1-8b": bands(range(32), 128, 500000, 8),
    "llama-3.1-405b": bands(range(126), 128, 500000, 8),
    "llama-3.2-1b": bands(range(16), 64, 500000, 32),
    "llama-3.2-3b": bands(range(28), 128, 500000, 32),
    "llama-4-scout": [
        case(others(4, 48, False), 128, llama3(plain(128, 500000), 16, 1, 1, 8192), pairing=PAIRS),
        still(others(4, 48, True), 128),
    ],
    "llama-4-maverick": [
        case(others(4, 48, False), 128, plain(128, 500000), pairing=PAIRS),
        still(others(4, 48, True), 128),
    ],
    "codellama-7b": whole(32, 128, 1000000),
    "vicuna-7b-16k": [case(range(32), 128, times(plain(128), 4))],
    "deepseek-coder-6.7b": [case(range(32), 128, times(plain(128, 100000), 4))],
    "yi-6b": whole(32, 128, 5000000),
    "smollm2-1.7b": whole(24, 64, 130000),
    "mistral-7b-v0.1": whole(32, 128),
    "mistral-7b-v0.3": whole(32, 128, 1000000),
    "mistral-nemo": whole(40, 128, 1000000),
    "mixtral-8x7b": whole(32, 128, 1000000),
    "qwen2-7b": whole(28, 128, 1000000),
    "qwen2.5-7b-yarn": [case(range(28), 128, yarn(128, 1000000, 4, 32768), scale=yarn_scale(4))],
    "qwen3-8b": whole(36, 128, 1000000),
    "qwen3-30b-a3b": whole(48, 128, 1000000),
    "qwen3-next-80b": [case(others(4, 48, True), 256, plain(64, 10000000)), still(others(4, 48, False), 256)],
    "qwen3.5-35b-a3b": [
        case(others(4, 40, True), 256, plain(64, 10000000), axes=turns(32, 11, 10)),
        still(others(4, 40, False), 256),
    ],
    "qwen2-vl-7b": whole(28, 128, 1000000, axes=sections(16, 24, 24)),
    "qwen2.5-vl-7b": whole(28, 128, 1000000, axes=sections(16, 24, 24)),
    "qwen3-vl-8b": whole(36, 128, 5000000, axes=turns(64, 20, 20)),
    "qwen3-vl-235b-yarn": [
        case(range(94), 128, yarn(128, 5000000, 3, 262144), scale=yarn_scale(3), axes=turns(64, 20, 20))
    ],
    "gemma-7b": whole(28, 256),
    "gemma-2-9b": whole(42, 256),
    "gemma-3-1b": [
        case(others(6, 26, False), 256, plain(256)),
        case(others(6, 26, True), 256, plain(256, 1000000)),
    ],
    "gemma-3-4b": [
        case(others(6, 34, False), 256, plain(256)),
        case(others(6, 34, True), 256, times(plain(256, 1000000), 8)),
    ],
    "gemma-3n-e4b": [
        case(others(5, 35, False), 256, plain(256)),
        case(others(5, 35, True), 256, plain(256, 1000000)),
    ],
    "gemma-4-31b": [
        case(others(6, 60, False), 256, plain(256)),
        case(others(6, 60, True), 512, plain(512, 1000000)[:64] + [mpf(0)] * 192),
    ],
    "phi-1.5": part(24, 64, 32),
    "phi-2": part(32, 80, 32),
    "phi-3-mini-4k": whole(32, 96),
    "phi-3-vision-128k": [
        case(range(32), 96, divided(plain(96), PHI_3["short_factor"]), scale=LONGROPE),
        case(range(32), 96, divided(plain(96), PHI_3["short_factor"]), scale=LONGROPE, length=4096),
        case(range(32), 96, divided(plain(96), PHI_3["long_factor"]), scale=LONGROPE, length=4097),
    ],
    "phi-4-mini": [
        case(range(32), 128, plain(96), scale=LONGROPE),
        case(range(32), 128, divided(plain(96), PHI_4["long_factor"]), scale=LONGROPE, length=131072),
    ],
    "pythia-410m": part(24, 64, 16),
    "gpt-neox-20b": part(44, 96, 24),
    "gpt-j-6b": part(28, 256, 64, pairing=PAIRS),
    "codegen-350m": part(20, 64, 32, pairing=PAIRS),
    "falcon-7b": whole(32, 64),
    "falcon-rw-1b": [still(range(24), 64)],
    "stablelm-2-1.6b": part(24, 64, 16),
    "stablelm-3b-4e1t": part(32, 80, 20),
    "persimmon-8b": part(36, 64, 32, 25000),
    "glm-4-9b-chat": part(40, 128, 64, pairing=PAIRS),
    "glm-4-9b-0414": part(40, 128, 64, pairing=PAIRS),
    "glm-4.5-air": part(46, 128, 64, 1000000),
    "glm-4.1v-9b": part(40, 128, 64, pairing=PAIRS, axes=sections(8, 12, 12)),
    "command-r": whole(40, 128, 8000000, pairing=PAIRS),
    "command-r7b": [
        case(others(4, 32, False), 128, plain(128, 50000), pairing=PAIRS),
        still(others(4, 32, True), 128),
    ],
    "olmo-2-7b": whole(32, 128, 500000),
    "olmo-3-7b": [
        case(others(4, 32, False), 128, plain(128, 500000)),
        case(others(4, 32, True), 128, yarn(128, 500000, 8, 8192), scale=yarn_scale(8)),
    ],
    "deepseek-v2-lite": [case(range(27), 192, yarn(64, 10000, 40, 4096), start=128, pairing=PAIRS)],
    "deepseek-v3": [case(range(61), 192, yarn(64, 10000, 40, 4096), start=128, pairing=PAIRS)],
    "gpt-oss-20b": [case(range(24), 64, yarn(64, 150000, 32, 4096, truncate=False), scale=yarn_scale(32))],
    "modernbert-base": [
        case([i for i in range(22) if i % 3], 64, plain(64)),
        case([i for i in range(22) if i % 3 == 0], 64, plain(64, 160000)),
    ],
    "smollm3-3b": [
        case(others(4, 36, False), 128, plain(128, 5000000)),
        still(others(4, 36, True), 128),
    ],
    "granite-3.1-8b": whole(40, 128, 10000000),
    "minitron-8b": part(32, 128, 64),
    "starcoder2-7b": whole(32, 128, 1000000),
    "exaone-4.0-32b": bands(others(4, 64, False), 128, 1000000, 16) + [still(others(4, 64, True), 128)],
    "exaone-4.0-1.2b": bands(range(30), 64, 1000000, 16),
    "helium-1-2b": whole(24, 128, 100000, pairing=PAIRS),
    "ernie-4.5-0.3b": whole(18, 128, 500000, pairing=PAIRS),
    "internlm2.5-7b": whole(32, 128, 1000000),
    "qwen-7b": [
        case(range(32), 128, plain(128)),
        case(range(32), 128, plain(128), length=8192),
        case(range(32), 128, plain(128, 10000 * mpf(3) ** (mpf(128) / 126)), length=8193),
        case(range(32), 128, plain(128, 10000 * mpf(7) ** (mpf(128) / 126)), length=32768),
    ],
    "chatglm3-6b": part(28, 128, 64, pairing=PAIRS),
    "glm-4-9b-chat-own-code": part(40, 128, 64, 5000000, pairing=PAIRS),
    "baichuan2-7b": whole(32, 128),
    "baichuan2-13b": [still(range(40), 128)],
    "minicpm-2b": whole(40, 64),
    "mimo-7b": whole(36, 128, 640000),
    "ling-lite-1.5": whole(28, 128, 600000),
    "ling-mini-2.0": part(20, 128, 64, 600000),
    "hunyuan-7b": whole(32, 128, 10000 * mpf(1000) ** (mpf(128) / 126)),
    "phi-4": whole(40, 128, 250000),
    "llama-3.3-70b": bands(range(80), 128, 500000, 8),
    "llama-2-70b": whole(80, 128),
    "tinyllama-1.1b": whole(22, 64),
    "deepseek-llm-7b": whole(30, 128),
    "yi-34b": whole(60, 128, 5000000),
    "smollm2-135m": whole(30, 64, 100000),
    "mixtral-8x22b": whole(56, 128, 1000000),
    "mistral-small-24b": whole(40, 128, 100000000),
    "qwen2.5-0.5b": whole(24, 64, 1000000),
    "qwen2.5-72b": whole(80, 128, 1000000),
    "deepseek-r1-distill-qwen-7b": whole(28, 128),
    "qwen1.5-moe-a2.7b": whole(24, 128, 1000000),
    "qwen3-0.6b": whole(28, 128, 1000000),
    "qwen3-4b": whole(36, 128, 1000000),
    "qwen3-32b": whole(64, 128, 1000000),
    "qwen3-235b-a22b": whole(94, 128, 1000000),
    "gemma-2b": whole(18, 256),
    "gemma-2-2b": whole(26, 256),
    "gemma-3-27b": [
        case(others(6, 62, False), 128, plain(128)),
        case(others(6, 62, True), 128, times(plain(128, 1000000), 8)),
    ],
    "deepseek-v2": [case(range(60), 192, yarn(64, 10000, 40, 4096), start=128, pairing=PAIRS)],
    "kimi-k2": [case(range(61), 192, yarn(64, 50000, 32, 4096, fast=1), start=128, pairing=PAIRS)],
    "falcon-40b": whole(60, 64),
    "olmo-7b": whole(32, 128),
    "olmoe-1b-7b": whole(16, 128),
    "starcoder2-15b": whole(40, 128, 100000),
    "stablelm-2-12b": part(40, 160, 40),
    "pythia-6.9b": part(32, 128, 32),
    "phi-3-medium-4k": whole(40, 128),
    "granite-3.0-1b-a400m": whole(24, 64),
    "command-r-plus": whole(64, 128, 75000000, pairing=PAIRS),
    "aya-expanse-8b": whole(32, 128, pairing=PAIRS),
    "minimax-m2": part(62, 128, 64, 5000000),
    "seed-oss-36b": whole(64, 128, 10000000),
    "minitron-4b": part(32, 128, 64),
    "deepseek-ocr": whole(12, 128),
    "internvl2-8b": whole(32, 128, 1000000),
    "llava-1.5-7b": whole(32, 128),
    "llava-1.6-mistral-7b": whole(32, 128, 1000000),
}

if __name__ == "__main__":
    folder = Path(__file__).with_name("expected")
    folder.mkdir(exist_ok=True)
    for name, cases in MODELS.items():
        shown = [c | {"w": [mp.nstr(f, 22) for f in c["w"]], "scale": mp.nstr(c["scale"], 22)} for c in cases]
        (folder / f"{name}.json").write_text(json.dumps(shown, indent=0).replace("\n", " ") + "\n")
