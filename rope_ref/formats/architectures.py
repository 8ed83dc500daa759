"""What the code of llama.cpp knows of each architecture, where a GGUF file is silent: src/llama-model.cpp, src/models.

A converter reorders the rows of query and key weights of some architectures from halves to neighbours, so that the
same model turns neighbours there. Pairing is told as of the model before.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """One architecture.

    pairing    of the model before conversion
    axes       M-RoPE where the file has sections: "blocks" of pairs for each axis, or axes "in turn"
    latent     the last channels of a head turn
    log        what yarn_log_multiplier is multiplied by; 0: it is not read
    every      of so many layers one has full attention, the others a sliding window
    first      it is the first of them, not the last
    windowed   only if the file names a sliding_window
    base       of sliding layers, where the file is silent; None: that of the others
    scaled     scaling holds for sliding layers too
    still      what does not rotate: "full" attention, beside sliding layers; every "fourth" layer; all, if it
               says that it is "not finetuned"; "all"
    recurrent  layers without attention: all but every fourth, or full_attention_interval-th
    """

    pairing: str = "half-split"
    axes: str | None = None
    latent: bool = False
    log: float = 0.0
    every: int | None = None
    first: bool = False
    windowed: bool = False
    base: float | None = None
    scaled: bool = True
    still: str | None = None
    recurrent: bool = False


HALVES = (
    "apertus", "arcee", "arctic", "baichuan", "bailingmoe", "bailingmoe2", "bitnet", "chameleon", "codeshell",
    "cogvlm", "dbrx", "deci", "deepseek", "dots1", "dream", "eurobert", "exaone", "falcon", "falcon-h1", "gemma",
    "gptneox", "grok", "grovemoe", "hrm_text", "hunyuan-dense", "hunyuan-moe",
    "hy_v3", "internlm2", "jais2", "jina-bert-v3", "lfm2", "lfm2moe", "llada", "llada-moe", "llama", "llama-embed",
    "maincoder", "minicpm", "minimax-m2", "minimax-m3", "nanbeige", "nemotron", "nomic-bert",
    "nomic-bert-moe", "olmo", "olmoe", "openelm", "orion", "pangu-embedded", "phi2", "phi3", "phimoe", "plamo",
    "plamo2", "qwen", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "rnd1", "seed_oss", "stablelm", "starcoder2", "xverse",
)  # fmt: skip
NEIGHBOURS = ("chatglm", "command-r", "ernie4_5", "ernie4_5-moe", "neo-bert")
ARCHITECTURES: dict[str, Architecture] = {
    **dict.fromkeys(HALVES, Architecture()),
    **dict.fromkeys(NEIGHBOURS, Architecture("interleaved")),
    "mistral3": Architecture(log=1.0),
    # latent attention
    **dict.fromkeys(("deepseek2", "deepseek32", "mistral4"), Architecture("interleaved", latent=True, log=10.0)),
    **dict.fromkeys(("glm-dsa", "plm"), Architecture("interleaved", latent=True)),
    "minicpm3": Architecture(latent=True),
    # axes, where the file has sections
    "qwen2vl": Architecture(axes="blocks"),
    "paddleocr": Architecture(axes="blocks"),
    "glm4": Architecture("interleaved", axes="blocks"),
    "glm4moe": Architecture(axes="blocks"),
    **dict.fromkeys(("qwen3vl", "qwen3vlmoe"), Architecture(axes="in turn")),
    **dict.fromkeys(("qwen35", "qwen35moe", "qwen4exp"), Architecture(axes="in turn", recurrent=True)),
    **dict.fromkeys(("qwen3next", "minimax-01"), Architecture(recurrent=True)),
    # some layers have a sliding window
    "gemma2": Architecture(every=2),
    "gpt-oss": Architecture(every=2),
    **dict.fromkeys(("gemma3", "gemma-embedding"), Architecture(every=6, base=1e4, scaled=False)),
    "gemma3n": Architecture(every=5, base=1e4, scaled=False),
    "gemma4": Architecture(base=1e4, scaled=False),
    "modern-bert": Architecture(every=3, first=True, windowed=True, base=1e4, scaled=False),
    "plamo3": Architecture(every=8, windowed=True, base=1e4, scaled=False),
    **dict.fromkeys(("olmo2", "mellum"), Architecture(every=4, windowed=True, scaled=False)),
    "laguna": Architecture(every=4, first=True, windowed=True, scaled=False),
    **dict.fromkeys(("mimo2", "step35"), Architecture(base=1e4)),
    # some layers do not rotate
    "smollm3": Architecture(still="fourth"),
    "llama4": Architecture("interleaved", still="fourth"),
    "afmoe": Architecture(still="fourth"),
    "cohere2": Architecture("interleaved", every=4, still="full"),
    "muse-glimmer": Architecture(every=4, still="full"),
    **dict.fromkeys(("exaone4", "exaone-moe"), Architecture(every=4, windowed=True, still="full")),
    "granite_swa": Architecture(),
    **dict.fromkeys(("granite", "granitemoe", "granitehybrid"), Architecture(still="not finetuned")),
    **dict.fromkeys(("nemotron_h", "nemotron_h_moe", "jamba", "kimi-linear"), Architecture(still="all")),
}  # fmt: skip
