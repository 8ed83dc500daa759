"""The plain notation of docstrings as MathML: w_i = 1 / (f_i theta^(2i/r)).

    a b             product                 a/b         a slash, in the line
    a_i  a^(x)      index, power            a / b       a fraction of the products around it
    f(x, y)         function                ln x        of one factor
    sqrt(x)         root                    m // g      quotient rounded down
    sum_D           sum over D              0 .. n      from, to
"""

import re
from collections.abc import Callable
from html import escape

GREEK = {"theta": "θ", "phi": "φ", "pi": "π", "zeta": "ζ", "gamma": "γ", "alpha": "α", "beta": "β", "Omega": "Ω"}
FUNCTIONS = {"ln", "cos", "sin", "exp", "clip", "int", "frac", "linspace", "softplus", "min", "max", "round", "floor"}
RELATIONS = {"=": "=", "<=": "≤", ">=": "≥", "<": "&lt;", ">": "&gt;", "..": "…", ",": ",", ";": ";"}
NUMBER, NAME = r"\d+(?:\.\d+)?", r"[^\W\d_]+(?:_[^\W_]+)*'?"
TOKEN = re.compile(rf"( //? )|\s*(<=|>=|\.\.\.?|{NUMBER}|{NAME}|[-+=<>,;()/|^_\[\]])")

SPACE = '<mspace width="0.17em"/>'

BRACKETS = {"(": ")", "|": "|"}
CLOSING = BRACKETS | {"[": "]", "⌊": "⌋"}

Known = Callable[[str], bool]


class Unreadable(ValueError):
    """The text is no formula."""


def tokens(text: str) -> list[tuple[str, int]]:
    """The tokens at the start of a text, each with where it ends."""
    found, at = [], 0
    while match := TOKEN.match(text, at):
        at = match.end()
        found.append((match[1] or match[2], at))
    return found


def symbol(name: str) -> bool:
    """Whether a word is a symbol even in the middle of a sentence: short, Greek, a function, or with an index."""
    stem, _, index = name.rstrip("'").partition("_")
    if stem in FUNCTIONS | {"sqrt", "sum", "mod"}:
        return len(index) < 2
    return (len(stem) == 1 or stem in GREEK) and "_" not in index


class Parser:
    """Recursive descent over tokens; a formula is as long as it can be read, and `end` is where it stops.

    In `prose` a comma belongs to the sentence, unless more of the formula follows it.
    """

    def __init__(self, text: str, known: Known = lambda name: True, prose: bool = False) -> None:
        self.tokens, self.known, self.prose = tokens(text), known, prose
        self.at = self.script = self.depth = 0

    @property
    def next(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    @property
    def end(self) -> int:
        return self.tokens[self.at - 1][1] if self.at else 0

    def take(self, expected: str | None = None) -> str:
        token = self.next
        if not token or (expected and token != expected):
            raise Unreadable(f"{token or 'the end'} stands where {expected or 'a term'} was expected")
        self.at += 1
        return token

    def attempt(self, read: Callable[[], str]) -> str:
        """What `read` reads, or nothing, with nothing taken, where it cannot."""
        before = self.at, self.depth, self.script
        try:
            return read()
        except Unreadable:
            self.at, self.depth, self.script = before
            return ""

    def statement(self) -> str:
        """Sums joined by relations."""
        value = self.sum()
        while self.next in RELATIONS and (more := self.attempt(self.related)):
            value += more
        return value

    def related(self) -> str:
        relation, first = self.take(), self.at == 2
        space = ' rspace="1em"' if relation in ",;" and not self.depth else ""
        start, value = self.at, self.sum()
        lone = self.at == start + 1 and (self.tokens[start][0][0].isdigit() or self.tokens[start][0] == "...")
        if self.prose and relation in ",;" and not self.depth and (first or self.next not in RELATIONS) and not lone:
            raise Unreadable("the sentence goes on")
        return f"<mo{space}>{RELATIONS[relation]}</mo>{value}"

    def sum(self) -> str:
        value = self.signed(self.quotient) if self.next in ("-", "+") else self.quotient()
        while self.next in ("+", "-") and (more := self.attempt(lambda: self.signed(self.quotient))):
            value += more
        return value

    def signed(self, read: Callable[[], str]) -> str:
        return f"<mo>{self.take().replace('-', '−')}</mo>{read()}"

    def quotient(self) -> str:
        value = self.product()
        while self.next in (" / ", " // ", "mod") and (more := self.attempt(lambda: self.divided(value))):  # noqa: B023
            value = more
        return value

    def divided(self, value: str) -> str:
        how, below = self.take(), self.product()
        if how == "mod":
            return f'{value}<mo lspace="0.3em" rspace="0.3em">mod</mo>{below}'
        if how == " // ":
            return bracketed("⌊", f"{bare(value)}<mo>/</mo>{below}")
        if self.script:
            return f"{value}<mo>/</mo>{below}"
        return f"<mfrac><mrow>{bare(value)}</mrow><mrow>{bare(below)}</mrow></mfrac>"

    def product(self) -> str:
        value, last = "", self.power()
        while self.starts_factor() or self.next == "/":
            slash = self.take() if self.next == "/" else ""
            more = self.attempt(self.power)
            if not more:
                self.at -= bool(slash)
                break
            words = re.search("<mtext>", last + more) or re.match(r"<mi>[a-z]{2}", more)
            between = "<mo>/</mo>" if slash else SPACE if words else "<mo>&#x2062;</mo>"
            value, last = value + last + between, more
        return value + last

    def starts_factor(self) -> bool:
        token = self.next
        name = token[:1].isalpha() and token != "mod" and self.known(token)
        return name or token in ("(", "...") or token[:1].isdigit()

    def power(self) -> str:
        base = self.factor()
        while self.next in ("^", "["):
            if self.take() == "[":
                base += bracketed("[", self.enclosed("]"))
                continue
            self.script += 1
            top = self.signed(self.factor) if self.next == "-" else bare(self.factor())
            self.script -= 1
            base = f"<msup><mrow>{base}</mrow><mrow>{top}</mrow></msup>"
        return base

    def factor(self) -> str:
        token = self.take()
        if token in BRACKETS:
            return bracketed(token, self.enclosed(BRACKETS[token]))
        if token[0].isdigit():
            return f"<mn>{token}</mn>"
        if token == "...":
            return "<mo>…</mo>"
        if not token[0].isalpha() or not self.known(token):
            raise Unreadable(f"{token} begins no term")
        if token == "sqrt" and self.take("("):
            return f"<msqrt>{self.enclosed(')')}</msqrt>"
        if token.partition("_")[0] not in FUNCTIONS or not symbol(token):
            return identifier(token)
        return f"{identifier(token)}<mo>&#x2061;</mo>{'' if self.next == '(' else SPACE}{self.power()}"

    def enclosed(self, end: str) -> str:
        """A statement up to the bracket that closes it."""
        self.depth += 1
        inner = self.statement()
        self.take(end)
        self.depth -= 1
        return inner


def identifier(name: str) -> str:
    """A name with its index: one letter or Greek in italics, a word upright."""
    prime = name.endswith("'")
    stem, _, index = name.rstrip("'").partition("_")
    if index and not symbol(name):
        stem, index = f"{stem}_{index}", ""
    if stem == "sum":
        return f"<munder><mo>∑</mo>{identifier(index)}</munder>" if index else "<mo>∑</mo>"
    kind = "mi" if stem in FUNCTIONS or stem in GREEK or len(stem) == 1 else "mtext"
    value = f"<{kind}>{GREEK.get(stem, escape(stem))}</{kind}>"
    if index:
        value = f"<msub>{value}<mrow><mi>{GREEK.get(index, index)}</mi></mrow></msub>"
    return f'<mrow>{value}<mo lspace="0" rspace="0">′</mo></mrow>' if prime else value


def bracketed(opening: str, inner: str) -> str:
    """Between brackets, which grow with fractions alone."""
    grows = "true" if "<mfrac" in inner else "false"
    return f'<mo stretchy="{grows}">{opening}</mo>{inner}<mo stretchy="{grows}">{CLOSING[opening]}</mo>'


def bare(value: str) -> str:
    """Without the parentheses around all of it, which a fraction or a power does not need."""
    depth, first = 0, None
    for sign in re.finditer(r'<mo stretchy="\w+">([()])</mo>', value):
        first = first if depth else sign
        depth += 1 if sign[1] == "(" else -1
        if not depth and first:
            whole = first.start() == 0 and sign.end() == len(value)
            return value[first.end() : sign.start()] if whole else value
    return value


def wrap(inner: str, wide: bool = False) -> str:
    """A formula in a line of text, or one that stands alone and has room."""
    style = ' displaystyle="true"' if wide else ""
    return f"<math{style}><mrow>{inner}</mrow></math>"


def formula(text: str, wide: bool = False, known: Known = lambda name: True) -> str:
    """A whole text as one formula.

    >>> formula("a = b / 2")
    '<math><mrow><mi>a</mi><mo>=</mo><mfrac><mrow><mi>b</mi></mrow><mrow><mn>2</mn></mrow></mfrac></mrow></math>'
    """
    parser = Parser(text, known)
    inner = parser.statement()
    if text[parser.end :].strip():
        raise Unreadable(f"{text[parser.end :]!r} is left over of {text!r}")
    return wrap(inner, wide)
