"""Pages to text: formulas, code and tables survive, hostile pages cost little, quality is kept."""

import re
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curation.formulas import find_formulas
from curation.html import MAX_ATTRIBUTES, MAX_ELEMENTS, HtmlError, _parse, extract
from curation.http_body import decode_text

DATA = Path(__file__).parents[2].parent / "shared" / "data"
PROSE = "<p>" + "A paragraph of prose, long enough to be an article and not a menu. " * 4 + "</p>"


def body(*parts, head=""):
    nav = "<nav><a href='/'>Home</a> <a href='/about'>About us</a></nav>"
    page = f"<html><head><title> The\n title </title>{head}</head><body>{nav}<article>"
    return (
        page + PROSE + "".join(parts) + PROSE + "</article><footer>Imprint</footer></body></html>"
    )


def text(*parts, head=""):
    return extract(body(*parts, head=head)).text


KATEX = (
    '<span class="katex"><span class="katex-mathml"><math><semantics><mrow><mi>z</mi></mrow>'
    '<annotation encoding="application/x-tex">z &lt; w</annotation></semantics></math></span>'
    '<span class="katex-html" aria-hidden="true"><span class="mord">zw</span></span></span>'
)
WIKI = (
    '<span class="mwe-math-element"><span class="mwe-math-mathml-inline" style="display: none;">'
    '<math alttext="{\\displaystyle a_{1}}"><semantics><mi>a</mi><annotation encoding="'
    'application/x-tex">{\\displaystyle a_{1}}</annotation></semantics></math></span><img src="'
    'https://wikimedia.org/api/rest_v1/media/math/render/svg/1" class="mwe-math-fallback-image-'
    'inline" alt="{\\displaystyle a_{1}}"/></span>'
)
FORMULAS = [
    ("<math><mfrac><mi>a</mi><mi>b</mi></mfrac></math>", r"$\frac{a}{b}$"),
    ('<math display="block"><mi>x</mi><mo>=</mo><mn>1</mn></math>', "$$x=1$$"),
    (KATEX, "$z < w$"),
    (f'<span class="katex-display">{KATEX}</span>', "$$z < w$$"),
    ('<span class="MathJax_Preview">?</span><span class="MathJax" data-mathml="&lt;math&gt;&lt;mi'
     '&gt;q&lt;/mi&gt;&lt;/math&gt;">seen</span><script type="math/tex">q^2</script>', "$q^2$"),
    ('<div class="MathJax_Display"><span class="MathJax">seen</span></div><script type="math/tex; '
     'mode=display">\\sum_i a_i</script>', r"$$\sum_i a_i$$"),
    ('<script type="math/mml"><math><mi>k</mi></math></script>', "$k$"),
    ('<span class="MathJax" data-mathml="&lt;math&gt;&lt;msup&gt;&lt;mi&gt;q&lt;/mi&gt;&lt;mn&gt;3'
     '&lt;/mn&gt;&lt;/msup&gt;&lt;/math&gt;">seen</span>', "$q^3$"),
    ('<mjx-container jax="SVG" display="true"><svg></svg><mjx-assistive-mml><math><mi>u</mi></math>'
     "</mjx-assistive-mml></mjx-container>", "$$u$$"),
    (WIKI, "$a_{1}$"),
    ('<img class="mwe-math-fallback-image-display" alt="{\\displaystyle t}" src="x.svg">', "$$t$$"),
    ('<img class="latex" alt="E=mc^2" src="https://s0.wp.com/latex.php?latex=E%3Dmc%5E2">',
     "$E=mc^2$"),
    ('<img src="https://s0.wp.com/latex.php?latex=E%3Dmc%5E2&bg=fff">', "$E=mc^2$"),
    ('<img src="https://latex.codecogs.com/svg.image?%5Cpi+r">', r"$\pi r$"),
    ('<span data-latex="\\omega">w</span>', r"$\omega$"),
    ('<span class="math notranslate nohighlight">\\(h_1\\)</span>', "$h_1$"),
    ('<span class="math display">\\[g\n g\\]</span>', "$$g g$$"),
    ('<math class="ltx_Math" alttext="\\mathcal{O}(n)"><mi>O</mi></math>', r"$\mathcal{O}(n)$"),
]  # fmt: skip


@pytest.mark.parametrize(("markup", "expected"), FORMULAS)
def test_formulas_of_every_renderer_become_tex(markup, expected):
    found = text(f"<p>Before the formula we say {markup} and after it we go on.</p>")
    middle = found[found.index("we say") + 6 : found.index("and after")]
    assert middle.strip() == expected
    assert ("\n" in middle) == expected.startswith("$$")
    assert "seen" not in found


def test_tex_between_delimiters_is_found_where_a_renderer_is_loaded():
    page = "<p>Let \\(x\n &lt; y\\) and \\[ z \\] be, as always; see \\(broken.</p>"
    loaded = text(page, head='<script src="/MathJax.js"></script>')
    assert "Let $x < y$ and\n$$z$$\nbe, as always; see \\(broken." in loaded
    assert r"\(x < y\)" in text(page)


def test_characters_that_no_tree_takes_are_dropped():
    page = "<p>Let \x01 &#1; &#xFFFF; \\(x\x02\\) \x0b be \ufffe, as always.</p>"
    found = text(page, head='<script src="/MathJax.js"></script>')
    assert re.search(r"Let \W*\$x\$ *be *, as always", found)


def test_many_formulas_keep_their_order_and_words_like_ours_are_no_danger():
    items = " ".join(f"<math><mi>v</mi><mn>{i}</mn></math>" for i in range(2000))
    found = text(f"<p>qzx0z said {items} end</p>")
    assert re.findall(r"\$v(\d+)\$", found) == [str(i) for i in range(2000)]
    assert "qzx0z said $v0$" in found


CODE = "def f(x):\n    if x:\n        return  1\n\n\n    return 2  # &lt;"


def test_code_keeps_its_lines_and_indentation():
    plain = CODE.replace("&lt;", "<")
    for markup, fence in [
        (f'<pre><code class="language-python">{CODE}\n</code></pre>', "```python"),
        (f'<div class="highlight-python"><div class="highlight"><pre>{CODE}</pre></div></div>',
         "```python"),
        (f"<pre><code>\n{CODE}</code></pre>", "```"),
        (f'<pre class="prettyprint">{CODE.replace(chr(10), "<br>")}</pre>', "```"),
    ]:  # fmt: skip
        assert f"\n\n{fence}\n{plain}\n```\n\n" in text(markup)


def test_preformatted_prose_is_not_fenced_and_keeps_its_lines():
    found = text("<pre>\n  a  poem\n\n    of lines\n</pre>")
    assert "\n\n  a  poem\n\n    of lines\n\n" in found
    assert "```" not in found


def test_line_numbers_beside_code_are_left_out():
    numbers = "<td class='linenos'><pre>1\n2\n</pre></td>"
    table = f"<table class='highlighttable'><tr>{numbers}<td><pre><code>a = 1\nb = 2\n</code></pre>"
    assert "```\na = 1\nb = 2\n```" in text(table + "</td></tr></table>")
    rows = "".join(
        f"<tr><td class='hljs-ln-numbers'>{i}</td><td>line {i}</td></tr>" for i in (1, 2)
    )
    assert "```\nline 1\nline 2\n```" in text(
        f"<pre><code class='hljs'><table>{rows}</table></code></pre>"
    )


def test_a_fence_is_longer_than_any_in_the_code():
    assert "````\n```\nx\n```\n````" in text("<pre><code>```\nx\n```</code></pre>")


def test_tables_lists_and_headings_are_lines():
    found = text(
        "<h2>Part  one</h2><table><tr><th>A</th><th>B</th></tr><tr><td>1</td><td>two words</td>"
        "</tr></table><ul><li>first<li>second<ul><li>deep</ul></ul>"
    )
    assert "\n\nPart one\n\n" in found
    assert "| A | B |\n| --- | --- |\n| 1 | two words |" in found
    assert "- first\n- second\n  - deep" in found
    assert "Home" not in found
    assert extract(body()).title == "The title"


@pytest.mark.parametrize(
    "hostile",
    [
        "<div>" * 100_000 + "deep", "<b>" * 100_000 + "deep", "<table><tr><td>" * 50_000,
        "<ul><li>" * 50_000, "<math>" + "<mrow>" * 100_000 + "<mi>x</mi>",
        "<pre>" + "<code>" * 100_000, "<div " + " ".join(f"a{i}" for i in range(100_000)) + ">",
        "<div " + "".join(f'a{i}="1"' for i in range(100_000)) + ">", "<a b='" * 100_001,
        "<div " + "/".join(f"=a{i}" for i in range(100_000)) + ">", "&" * 300_000, "<" * 300_000,
        "<!--" * 100_000, "\0" * 100_000, "<p>\ud800</p>", "<![CDATA[" * 50_000, "\x01\x1f" * 1000,
        '<span class="MathJax" data-mathml="&lt;math' + "x" * 100_000 + '">',
    ],
)  # fmt: skip
def test_hostile_pages_are_read_up_to_the_harm(hostile):
    found = extract(body() + hostile + PROSE)
    assert "A paragraph of prose" in found.text


def test_a_page_of_too_many_elements_is_refused_and_long_data_addresses_are_not():
    with pytest.raises(HtmlError, match=f"more than {MAX_ELEMENTS}"):
        extract("<p>x</p>" * (MAX_ELEMENTS + 1))
    image = "<img src='data:image/png;base64," + "A" * 500_000 + "'>"
    path = "<svg><path d='" + "M 1 2 " * 50_000 + "'></svg>"
    attributes = " ".join(f"data-a{i}='x y'" for i in range(MAX_ATTRIBUTES - 1))
    found = text(image, path, f"<p {attributes}>Another paragraph that is to be kept as it is.</p>")
    assert "Another paragraph that is to be kept" in found


@pytest.mark.parametrize("html", ["", " ", "no tags at all", "<html></html>", "<!doctype html>"])
def test_a_page_without_an_article_gives_no_error(html):
    assert extract(html).title is None


def test_the_benchmark_of_articles_is_met():
    if not (DATA / "web" / "aeb.parquet").exists():
        pytest.skip("web/aeb.parquet is not here")
    scores = []
    for row in pq.read_table(DATA / "web" / "aeb.parquet").to_pylist()[::6]:
        found = Counter(re.findall(r"\w+", extract(decode_text(row["html"])).text))
        gold = Counter(re.findall(r"\w+", row["gold"]))
        scores.append(2 * (found & gold).total() / (found.total() + gold.total()))
    assert sum(scores) / len(scores) > 0.94


def test_the_formulas_of_a_real_article_are_all_kept_and_each_once():
    path = DATA / "web" / "pages.warc.gz"
    if not path.exists():
        pytest.skip("web/pages.warc.gz is not here")
    from fastwarc.warc import ArchiveIterator

    with path.open("rb") as file:
        name = "T-distributed_stochastic"
        html = next(
            record.reader.read()
            for record in ArchiveIterator(file, parse_http=True)
            if name in record.headers["WARC-Target-URI"]
        ).decode()
    told = html.count('encoding="application/x-tex"')
    found = extract(html).text
    formulas = re.findall(r"\$([^$]+)\$", found)
    assert len(formulas) == told > 30
    assert r"objects $\mathbf {x} _{1},\dots ,\mathbf {x} _{N}$, t-SNE first" in found
    kept = []
    find_formulas(_parse(html), lambda tex, display: kept.append(tex) or "", False)
    assert kept == formulas
