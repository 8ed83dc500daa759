"""The book: what it is made of is right, what is broken fails its build, its interactive page computes as rope_ref."""

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import rope_ref as rr

pytest.importorskip("material", reason="the extra docs is not installed")

from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import PluginError

from book import examples, hooks, links, mathml, opening, prose, related, tables, variants
from rope_ref.spectrum import bands, decay, speeds

ROOT = Path(__file__).parents[1]
NODE = shutil.which("node")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
U = 2.0**-53


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        build(load_config("mkdocs.yml", site_dir=str(folder), strict=True))
    return folder


# Mathematics

names = st.sampled_from(["a", "w_i", "theta", "b'", "scale_base", "phi"])
formulas = st.recursive(
    names | st.integers(0, 99).map(str),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" + ", " - ", " / ", " // ", "/", " "]), inner).map("".join),
        inner.map("({})".format), inner.map("sqrt({})".format), inner.map("ln({})".format),
        st.tuples(names, inner).map(lambda pair: f"{pair[0]}^({pair[1]})"),
    ),
    max_leaves=12,
)  # fmt: skip


@given(formulas, formulas)
def test_every_formula_is_sound_and_holds_what_was_written(left, right):
    text = f"{left} = {right}"
    root = ElementTree.fromstring(mathml.formula(text))
    written = re.findall(r"\d+", text)
    assert [node.text for node in root.iter("mn")] == written
    assert sum(node.text == "=" for node in root.iter("mo")) == 1
    assert len(list(root.iter("mfrac"))) <= text.count(" / ")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("theta^(-2i/r)", "<msup><mrow><mi>θ</mi></mrow><mrow><mo>−</mo><mn>2</mn><mo>&#x2062;</mo><mi>i</mi>"
                          "<mo>/</mo><mi>r</mi></mrow></msup>"),
        ("s n / L", "<mfrac><mrow><mi>s</mi><mo>&#x2062;</mo><mi>n</mi></mrow><mrow><mi>L</mi></mrow></mfrac>"),
        ("a (b + c)", '<mi>a</mi><mo>&#x2062;</mo><mo stretchy="false">(</mo><mi>b</mi><mo>+</mo><mi>c</mi>'
                      '<mo stretchy="false">)</mo>'),
    ],
)  # fmt: skip
def test_formulas_as_written_by_hand(text, expected):
    assert mathml.formula(text) == f"<math><mrow>{expected}</mrow></math>"


def test_a_line_of_two_equations_and_words_about_one():
    assert prose.equation("φ' = a / b    w_η = 2   where a is 1").count("<mo>=</mo>") == 2
    assert "<small>where a is 1</small>" in prose.equation("w_η = 2   where a is 1")
    assert "<small>" in prose.equation("a = b    |d| <= u and one of them is 0")
    assert prose.equation("make docs    the book") is None


@pytest.mark.parametrize("text", ["a b c, d", "no formula here", "w = (a", "= 2", "a ? b"])
def test_what_is_no_formula_is_left_as_it_stands(text):
    assert prose.inline(text, set()) in (text, text.replace("w = (", f"{mathml.wrap('<mi>w</mi>')} = ("))


@pytest.mark.parametrize("name", rr.CATALOGUE)
def test_the_formulas_of_every_docstring_are_sound(name):
    text = "".join(prose.documented(function) for function in related.lines(name))
    assert all(ElementTree.fromstring(found) is not None for found in re.findall("<math.*?</math>", text))


# What is broken fails the build


@pytest.mark.parametrize("code", ["assert 1 + 1 == 3", "import no_such_module", "1 +"])
def test_a_broken_example_fails(code):
    with pytest.raises(examples.Broken, match="page.md fails"):
        examples.executed(f"```python\nprint(1)\n```\n\n```python\n{code}\n```\n", "page.md")


def test_a_page_with_a_broken_example_is_not_built():
    page = type("Page", (), {"file": type("File", (), {"src_uri": "a.md"})})
    with pytest.raises(PluginError, match="fails"):
        hooks.on_page_markdown("```python\nraise OSError\n```\n", page, None, None)


def test_what_examples_print_is_shown_and_their_names_are_shared():
    text = examples.executed("```python\nx = 20\n```\n\n```python\nprint(x + 22)\n```\n", "page.md")
    assert re.search(r"prints.*\n42\n", text)


@pytest.mark.parametrize(
    "tag, options",
    [
        ('<a href="missing.html">', "no page"),
        ('<a href="b.html#missing">', "no anchor"),
        ('<a href="#missing">', "no anchor"),
        ('<a href="http://example.org">', "form of an address"),
        ('<a href="https://github.com/owner/repo/issues/x1">', "on GitHub"),
        ('<script src="https://example.org/a.js">', "elsewhere"),
        ('<img src="b.png">', "no page"),
        ('<a href="b.html#here"><a href="https://example.org/a"><a href="https://github.com/a/b/issues/1">', None),
    ],
)
def test_links_that_lead_nowhere_are_found(tmp_path, tag, options):
    (tmp_path / "a.html").write_text(tag)
    (tmp_path / "b.html").write_text('<h1 id="here">')
    found = links.broken(tmp_path)
    assert len(found) == (options is not None) and (options is None or options in found[0])


# The pages


def test_the_picture_is_what_its_script_draws():
    assert opening.FILE.read_text() == opening.picture(), "python -m book.opening draws it anew"
    assert len(opening.picture()) < 40_000
    root = ElementTree.fromstring(opening.picture())
    hands = [line for line in root.iter("{http://www.w3.org/2000/svg}line")]
    assert len(hands) == 4 * len(opening.WORDS) + 4


@pytest.mark.in_turn
def test_the_site_is_built_and_whole(site):
    assert not links.broken(site)
    for name in rr.CATALOGUE:
        text = (site / "variants" / f"{name}.html").read_text()
        assert f"figures/{name}.svg" in text and "pairs, fastest" in text
        assert all(case.address in text for case in related.bugs()[name])
        plain = re.sub("<[^>]+>", "", text)
        assert f"def {rr.CATALOGUE[name].__name__}(" in plain
    assert "theta ** exponent" not in text  # what is looked for below is in the page it belongs to, not in all
    assert "<mfrac>" in (site / "variants" / "llama3.html").read_text()


def test_every_variant_has_a_parent_that_leads_to_default():
    for name in rr.CATALOGUE:
        seen = [name]
        while (above := related.parent(seen[-1])) is not None:
            assert above not in seen
            seen.append(above)
        assert seen[-1] == "default"


def test_changes_are_those_of_the_ropes():
    assert related.changes(*related.siblings("xpos")) == [("magnitude", "1", "by position")]
    rows = dict((what, now) for what, _, now in related.changes(*related.siblings("linear")))
    assert rows["speed against the parent's"] == "1 for 0 of 32 pairs, 0.125 to 0.125 for 32"


def test_models_and_bugs_are_found_where_they_belong():
    assert "llama-3.1-8b" in related.models()["llama3"] and "deepseek-v3" in related.models()["decoupled"]
    assert "qwen3-vl-8b" in related.models()["mrope_interleaved"] and "qwen2-vl-7b" in related.models()["mrope"]
    assert {case.bug for case in related.bugs()["llama3"]} == {"LLAMA3"}
    assert variants.group("wan") == "Video"


# The interactive page

COMPUTE = """
const { VARIANTS, bands, decay } = require(process.argv[1]);
const given = JSON.parse(require("fs").readFileSync(0));
console.log(JSON.stringify(given.map(([name, a, distances]) => {
  const [w, magnitude] = VARIANTS[name](a);
  return { w, magnitude, decay: distances.map((d) => decay(w, magnitude, d)), bands: bands(w, a.theta) };
})));
"""


def computed(cases):
    """What rope.js makes of a list of (variant, arguments, distances)."""
    script = [NODE, "-e", COMPUTE, str(ROOT / "docs" / "explorer" / "rope.js")]
    told = subprocess.run(script, input=json.dumps(cases), capture_output=True, text=True, check=True)
    return json.loads(told.stdout)


theta, factor, length = st.floats(10, 1e7), st.floats(1, 64), st.integers(256, 10**6)
width = st.integers(2, 64).map(lambda pairs: 2 * pairs)
COMMON = {"head_dim": width, "theta": theta}
ARGUMENTS = {
    "default": {},
    "linear": {"factor": factor},
    "ntk": {"factor": factor},
    "dynamic_ntk": {"factor": factor, "max_position_embeddings": length, "length": length},
    "proportional": {"factor": factor, "partial_rotary_factor": st.floats(0.1, 1)},
    "llama3": {"factor": factor, "low_freq_factor": st.floats(0.5, 2), "high_freq_factor": st.floats(3, 8),
               "original_max_position_embeddings": length},
    "yarn": {"factor": factor, "original_max_position_embeddings": length, "beta_fast": st.floats(16, 64),
             "beta_slow": st.floats(0.5, 2)},
}  # fmt: skip
cases = st.sampled_from(sorted(ARGUMENTS)).flatmap(
    lambda name: st.tuples(st.just(name), st.fixed_dictionaries(COMMON | ARGUMENTS[name]))
)


def assert_same(told, rope, distances=()):
    """A translation's frequencies, magnitude and scores are those of a Rope."""
    w, plain = speeds(rope), rr.variants.default(2 * rope.pairs, told["theta"]).omega
    # Powers of 2 ulp in either, of a theta' that was one such power itself and is raised to less than 1; a ramp of
    # at most 6 roundings, whose numbers are at most 8/(3 - 2) of its width; products and sums: 64 u of the unscaled
    assert np.abs(np.asarray(told["w"]) - w).max(initial=0) <= 64 * U * plain.max(initial=0)
    assert (np.abs(np.asarray(told["w"]) - w) <= 64 * U * np.maximum(plain, w)).all()
    assert abs(told["magnitude"] - rope.attention_scale) <= 8 * U * rope.attention_scale
    if distances:
        # frequencies off by that much turn by d times as much; the sum rounds once a pair
        bound = rope.attention_scale**2 * (64 * U * max(distances) * plain.max() + (rope.pairs + 16) * U)
        assert np.abs(np.asarray(told["decay"]) - decay(rope, np.asarray(distances, float))).max() <= bound


@pytest.mark.skipif(NODE is None, reason="node is not installed")
@settings(max_examples=10, phases=[Phase.generate])  # every try starts a process: a smaller list is not worth many
@given(st.lists(cases, min_size=20, max_size=40))
def test_the_translation_computes_what_rope_ref_does(many):
    distances = [0, 1, 10, 1000]
    told = computed([(name, options | {"rotary_dim": options["head_dim"]}, distances) for name, options in many])
    for one, (name, options) in zip(told, many, strict=True):
        rope = rr.CATALOGUE[name](**options)
        assert_same(one | {"theta": options["theta"]}, rope, distances)
        rows = re.findall(r"^([a-z]+) +(\d+)(?:-(\d+))? ", bands(rope, options["theta"]), re.MULTILINE)
        runs = [(run["name"], run["pairs"][0], run["pairs"][-1]) for run in one["bands"]]
        assert runs == [(kind, int(first), int(last or first)) for kind, first, last in rows]


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_translation_computes_every_table():
    rows = [row for model in tables.tables() for row in model["layers"] if row["variant"]]
    assert {row["variant"] for row in rows} >= {"default", "linear", "llama3", "yarn", "longrope", "proportional"}
    for row, told in zip(rows, computed([(row["variant"], row["given"], []) for row in rows]), strict=True):
        assert_same(told | {"theta": row["theta"]}, rr.CATALOGUE[row["variant"]](**row["given"]))


DRIVE = """<script>
addEventListener("load", () => {
  const page = document.getElementById("explore"), form = page.querySelector("form"), seen = [];
  const look = () => seen.push({ ...JSON.parse(page.dataset.state), words: page.querySelector(".words").textContent,
    dots: page.querySelectorAll(".waves circle").length, rows: page.querySelectorAll(".bands tbody tr").length });
  const set = (name, value, kind) => {
    form.elements[name].value = value;
    form.elements[name].dispatchEvent(new Event(kind, { bubbles: true }));
    look();
  };
  look();
  set("config", "qwen2.5-7b-yarn", "change");
  set("factor", "16", "input");
  set("factor", "0", "input");
  form.querySelector("button").click(); look();
  set("variant", "linear", "change");
  set("config", "gemma-3-4b", "change");
  set("group", "1", "change");
  document.body.innerHTML = `<pre id="seen">${JSON.stringify(seen)}</pre>`;
});
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no browser is installed")
def test_the_page_follows_what_a_reader_chooses(site):
    page = site / "driven.html"
    page.write_text((site / "explorer.html").read_text().replace("</body>", f"{DRIVE}</body>"))
    try:
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
        command.append(f"{page.as_uri()}?config=llama-3.1-8b")
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    finally:
        page.unlink()
    seen = json.loads(re.search('<pre id="seen">(.*?)</pre>', shown, re.DOTALL)[1])
    llama = rr.from_config(related.CONFIGS["llama-3.1-8b"]["config"])
    config = related.CONFIGS["qwen2.5-7b-yarn"]["config"]
    qwen = rr.from_config(config)
    wide = rr.variants.yarn(**qwen.origin.given | {"factor": 16.0})
    linear = rr.variants.linear(128, 4.0, theta=1e6)
    gemma = [rr.from_config(related.CONFIGS["gemma-3-4b"]["config"], layer) for layer in (0, 5)]
    for one, rope in zip(seen, [llama, qwen, wide, wide, qwen, linear, *gemma], strict=True):
        assert_same(one | {"theta": rope.theta if rope.inv_freq is None else rope.origin.given["theta"]}, rope)
        assert one["dots"] == rope.pairs and one["rows"] >= 1
    assert [one["edited"] for one in seen] == [False, False, True, True, False, True, False, False]
    assert "no rotary embedding" in seen[3]["words"] and "Qwen" in seen[4]["words"]
