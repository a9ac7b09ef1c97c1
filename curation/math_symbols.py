"""The table from Unicode's mathematical characters to TeX commands, and from styled letters.

Only names that every LaTeX with amsmath and amssymb knows. A character that is not here is left as
it is: modern TeX engines, MathJax and KaTeX read Unicode.
"""

import unicodedata

_TABLE = """
α alpha β beta γ gamma δ delta ϵ epsilon ε varepsilon ζ zeta η eta θ theta ϑ vartheta ι iota κ kappa
λ lambda μ mu ν nu ξ xi π pi ϖ varpi ρ rho ϱ varrho σ sigma ς varsigma τ tau υ upsilon φ varphi
ϕ phi χ chi ψ psi ω omega Γ Gamma Δ Delta Θ Theta Λ Lambda Ξ Xi Π Pi Σ Sigma Υ Upsilon Φ Phi Ψ Psi
Ω Omega ∂ partial ∇ nabla ℏ hbar ℓ ell ℘ wp ℜ Re ℑ Im ℵ aleph ı imath ȷ jmath ∞ infty ∅ emptyset
∑ sum ∏ prod ∐ coprod ∫ int ∬ iint ∭ iiint ∮ oint ⋃ bigcup ⋂ bigcap ⋁ bigvee ⋀ bigwedge
⨁ bigoplus ⨂ bigotimes ⨀ bigodot ⨄ biguplus ⨆ bigsqcup
± pm ∓ mp × times ÷ div ⋅ cdot · cdot ∗ ast ⋆ star ∘ circ ∙ bullet • bullet ⊕ oplus ⊖ ominus
⊗ otimes ⊘ oslash ⊙ odot † dagger ‡ ddagger ⨿ amalg ∩ cap ∪ cup ⊎ uplus ⊓ sqcap ⊔ sqcup
∨ vee ∧ wedge ∖ setminus ≀ wr ⋄ diamond △ triangle ▽ bigtriangledown ⊲ lhd ⊳ rhd
≤ leq ≥ geq ≪ ll ≫ gg ≠ neq ≡ equiv ∼ sim ≃ simeq ≈ approx ≅ cong ≐ doteq ∝ propto ≺ prec ≻ succ
⪯ preceq ⪰ succeq ⩽ leqslant ⩾ geqslant ≲ lesssim ≳ gtrsim ≜ triangleq ≔ coloneqq
⊂ subset ⊃ supset ⊆ subseteq ⊇ supseteq ⊊ subsetneq ⊋ supsetneq ⊏ sqsubset ⊐ sqsupset
⊑ sqsubseteq ⊒ sqsupseteq ∈ in ∋ ni ∉ notin ⊢ vdash ⊣ dashv ⊨ models ⊥ perp ∥ parallel ∦ nparallel
∣ mid ∤ nmid ⋈ bowtie ⌣ smile ⌢ frown ≍ asymp ⊩ Vdash
← leftarrow → rightarrow ↔ leftrightarrow ⇐ Leftarrow ⇒ Rightarrow ⇔ Leftrightarrow ↑ uparrow
↓ downarrow ↕ updownarrow ⇑ Uparrow ⇓ Downarrow ↦ mapsto ↩ hookleftarrow ↪ hookrightarrow
⟵ longleftarrow ⟶ longrightarrow ⟷ longleftrightarrow ⟸ Longleftarrow ⟹ Longrightarrow
⟺ Longleftrightarrow ⟼ longmapsto ↗ nearrow ↘ searrow ↙ swarrow ↖ nwarrow ⇀ rightharpoonup
⇁ rightharpoondown ↼ leftharpoonup ↽ leftharpoondown ⇌ rightleftharpoons ↠ twoheadrightarrow
⇝ rightsquigarrow ⊸ multimap
∀ forall ∃ exists ∄ nexists ¬ neg ⊤ top ∴ therefore ∵ because ∠ angle ∡ measuredangle □ square
■ blacksquare ◊ lozenge ♯ sharp ♭ flat ♮ natural ♠ spadesuit ♡ heartsuit ♢ diamondsuit ♣ clubsuit
… ldots ⋯ cdots ⋮ vdots ⋱ ddots ⌊ lfloor ⌋ rfloor ⌈ lceil ⌉ rceil ⟨ langle ⟩ rangle 〈 langle
〉 rangle ‖ Vert ∁ complement √ surd ⊺ intercal ⋉ ltimes ⋊ rtimes ð eth ℧ mho
"""
_PAIRS = _TABLE.split()

COMMANDS = {
    char: "\\" + name for char, name in zip(_PAIRS[::2], _PAIRS[1::2], strict=True)
} | {
    "−": "-", "‐": "-", "–": "-", "′": "'", "″": "''", "‴": "'''", "∶": ":", "∕": "/", "⁄": "/",
    "\\": "\\backslash", "{": "\\{", "}": "\\}", "#": "\\#", "%": "\\%", "&": "\\&", "$": "\\$",
    "_": "\\_", "~": "\\sim", "^": "\\hat{}", "\u00a0": " ", "≮": "\\not<", "≯": "\\not>",
    "≢": "\\not\\equiv", "≁": "\\nsim", "≰": "\\nleq", "≱": "\\ngeq", "⊄": "\\not\\subset",
    "⊈": "\\nsubseteq", "\u2061": "", "\u2062": "", "\u2063": "", "\u2064": "", "\u200b": "",
}  # fmt: skip

# Names that TeX sets upright without being told, and has a command for.
_UPRIGHT = (
    "arccos arcsin arctan arg cos cosh cot coth csc deg det dim exp gcd hom inf ker lg lim liminf "
    "limsup ln log max min Pr sec sin sinh sup tan tanh"
)
FUNCTIONS = frozenset(_UPRIGHT.split())

# What stands over or under a base as an accent: (over one character, over more than one).
OVER = {
    "¯": ("bar", "overline"), "‾": ("bar", "overline"), "\u0304": ("bar", "overline"),
    "_": ("bar", "overline"), "―": ("bar", "overline"), "ˉ": ("bar", "overline"),
    "\u0305": ("bar", "overline"),
    "^": ("hat", "widehat"), "ˆ": ("hat", "widehat"), "\u0302": ("hat", "widehat"),
    "~": ("tilde", "widetilde"), "˜": ("tilde", "widetilde"), "\u0303": ("tilde", "widetilde"),
    "∼": ("tilde", "widetilde"), "→": ("vec", "overrightarrow"), "⃗": ("vec", "overrightarrow"),
    "⇀": ("vec", "overrightarrow"), "←": ("overleftarrow",) * 2,
    "↔": ("overleftrightarrow",) * 2, "˙": ("dot", "dot"), "\u0307": ("dot", "dot"),
    ".": ("dot", "dot"), "¨": ("ddot", "ddot"), "\u0308": ("ddot", "ddot"),
    "\u20db": ("dddot", "dddot"), "ˇ": ("check", "check"), "\u030c": ("check", "check"),
    "˘": ("breve", "breve"), "\u0306": ("breve", "breve"), "´": ("acute", "acute"),
    "\u0301": ("acute", "acute"), "`": ("grave", "grave"), "\u0300": ("grave", "grave"),
    "˚": ("mathring", "mathring"), "⏞": ("overbrace",) * 2, "︷": ("overbrace",) * 2,
}  # fmt: skip
UNDER = {
    "_": "underline", "¯": "underline", "‾": "underline", "\u0332": "underline",
    "⏟": "underbrace", "︸": "underbrace", "→": "underrightarrow", "←": "underleftarrow",
}  # fmt: skip

# Operators whose limits stand below and above: TeX writes them as sub- and superscripts.
LIMITS = frozenset("∑∏∐⋃⋂⋁⋀⨁⨂⨀⨄⨆∫∬∭∮") | {
    "lim", "max", "min", "sup", "inf", "limsup", "liminf", "det", "gcd", "Pr", "lim sup", "lim inf",
}  # fmt: skip
ARROWS = {"→": "xrightarrow", "⟶": "xrightarrow", "←": "xleftarrow", "⟵": "xleftarrow"}

_STYLES = {
    "bold": "mathbf", "double-struck": "mathbb", "script": "mathcal", "bold-script": "mathcal",
    "fraktur": "mathfrak", "bold-fraktur": "mathfrak", "sans-serif": "mathsf",
    "bold-sans-serif": "mathsf", "monospace": "mathtt", "normal": "mathrm",
    "bold-italic": "boldsymbol", "-tex-calligraphic": "mathcal", "-tex-mathit": "mathit",
}  # fmt: skip

_NAMES = (
    ("DOUBLE-STRUCK", "mathbb"), ("SCRIPT", "mathcal"), ("FRAKTUR", "mathfrak"),
    ("BLACK-LETTER", "mathfrak"), ("MONOSPACE", "mathtt"), ("SANS-SERIF", "mathsf"),
    ("BOLD ITALIC", "boldsymbol"), ("BOLD", "mathbf"),
)  # fmt: skip


def styled(text: str, variant: str | None) -> str:
    """Wrap converted letters in the command of a `mathvariant`; unknown ones change nothing."""
    command = _STYLES.get(variant or "")
    return f"\\{command}{{{text}}}" if command and text else text


def symbol(char: str) -> str:
    """Give the TeX of one character of a formula.

    Letters of the mathematical alphabets (𝔸, 𝒜, 𝐱, 𝑥) become plain letters in a style command.
    """
    known = COMMANDS.get(char)
    if known is not None:
        return known
    if ord(char) > 0x2100:
        plain = unicodedata.normalize("NFKC", char)
        name = unicodedata.name(char, "")
        if len(plain) == 1 and plain != char and plain.isalnum():
            letter = COMMANDS.get(plain, plain)
            for part, command in _NAMES:
                if part in name:
                    return f"\\{command}{{{letter}}}"
            return letter
    return char
