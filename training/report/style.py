"""How the report of a run looks: the colours and parts of the served page, on a desk, on a phone and on paper."""

import re

# The variables of service/playground/static/page.css that the report uses, by the same names; a test holds them equal.
LIGHT = {
    "bg": "#f7f3ec", "card": "#fffdf9", "ink": "#221c15", "soft": "#665b4e", "edge": "#ded4c5", "accent": "#a23b0b",
    "l1": "#fff2de", "l2": "#ffe4bf", "l3": "#ffd097", "l4": "#ffb76e", "l5": "#fd9c51", "l6": "#f58342",
    "rule": "#b2440f", "curve": "#2f6f73", "grid": "#ece4d7",
}  # fmt: skip
DARK = {
    "bg": "#14110e", "card": "#1c1814", "ink": "#f1eae0", "soft": "#aca091", "edge": "#3a322a", "accent": "#ff9d63",
    "l1": "#2a2017", "l2": "#3b2a1a", "l3": "#52361c", "l4": "#6d431d", "l5": "#8a4d1b", "l6": "#a5531a",
    "rule": "#ffb27d", "curve": "#6cc5c4", "grid": "#2b251f",
}  # fmt: skip


def _variables(colours: dict[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())


SURPRISE = "\n".join(
    f".l{at}{{background:var(--l{at})"
    + (f";text-decoration:underline {at - 2}px var(--rule)" if at > 2 else "")  # colour is never the only sign
    + "}"
    for at in range(1, 7)
)

CHART = """\
.chart text{fill:var(--soft);font:13px system-ui,-apple-system,"Segoe UI","Noto Sans","DejaVu Sans",sans-serif;
font-variant-numeric:tabular-nums}
.chart .grid{stroke:var(--grid)}
.chart .axis{stroke:var(--soft)}
.series{fill:none;stroke-width:2;stroke-linejoin:round}
.series circle{stroke:none}
.train{stroke:var(--rule);stroke-dasharray:6 4}
.train circle{fill:var(--rule)}
.validation{stroke:var(--curve)}
.validation circle{fill:var(--curve)}
.plain{stroke:var(--soft)}
.plain circle{fill:var(--soft)}
.chart circle.best{fill:none;stroke:var(--ink);stroke-width:2}"""
"""How a drawing's lines and words look, in the page and in a file of its own."""

STYLE = f"""
:root{{{_variables(LIGHT)}color-scheme:light dark;
--mono:ui-monospace,"SF Mono","Cascadia Code","JetBrains Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;
--sans:system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif}}
@media (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}
*{{box-sizing:border-box}}
html{{-webkit-text-size-adjust:100%;text-size-adjust:100%}}
body{{margin:0 auto;padding:1.25rem clamp(12px,3vw,32px) 4rem;max-width:70rem;background:var(--bg);color:var(--ink);
font:15px/1.5 var(--sans)}}
h1,h2,h3,p,dl,dd{{margin:0}}
h1{{font-size:20px;line-height:1.25;letter-spacing:-.02em;overflow-wrap:anywhere}}
h2{{font-size:18px;letter-spacing:-.01em;margin-bottom:.7rem}}
h3{{font-size:1rem;margin:1.25rem 0 .5rem}}
section>p,details>p{{max-width:46rem;margin:.4rem 0 .9rem;overflow-wrap:anywhere}}
a{{color:var(--accent)}}
header{{display:flex;gap:10px 12px;align-items:center;flex-wrap:wrap;margin-bottom:1rem}}
header svg{{width:28px;height:28px;flex:none}}
header p{{flex:1 1 20rem}}
header p,footer,figcaption,.small{{color:var(--soft);font-size:13px}}
section,.notes{{background:var(--card);border:1px solid var(--edge);border-radius:12px;padding:16px 20px;margin:16px 0}}
.first{{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1fr);gap:12px 32px;padding:24px;margin-top:0}}
.figure{{font-size:clamp(40px,6vw,60px);line-height:1;font-weight:650;letter-spacing:-.03em;
font-variant-numeric:tabular-nums}}
.figure small{{display:block;font-size:16px;font-weight:400;letter-spacing:0;color:var(--soft);margin:6px 0 14px;
line-height:1.4}}
.first .words{{font-size:17px;margin-bottom:14px;max-width:34em}}
.first .sample{{min-width:0;display:flex;flex-direction:column}}
.first .sample .text{{flex:1;max-height:15.2rem;overflow:hidden;margin:4px 0 0;
mask-image:linear-gradient(#000 calc(100% - 48px),#0000)}}
.first dl{{grid-column:1/-1;display:flex;flex-wrap:wrap;gap:10px 32px;padding-top:14px;
border-top:1px solid var(--edge)}}
dt{{color:var(--soft);font-size:13px}}
dd{{font-size:20px;font-weight:650;letter-spacing:-.02em;font-variant-numeric:tabular-nums}}
nav ul,.legend{{list-style:none;margin:0;padding:0;display:flex;flex-wrap:wrap;gap:.3rem 1.2rem}}
.notes{{padding-inline-start:2.2rem;border-left:4px solid var(--rule)}}
figure{{margin:0;min-width:0}}
figcaption{{margin:.25rem 0 .5rem}}
details{{border-top:1px solid var(--edge)}}
section>.small-charts+details{{margin-top:1rem}}
summary{{cursor:pointer;padding:.35rem 0;font-variant-numeric:tabular-nums}}
.told{{display:inline-flex;gap:0 14px;width:calc(100% - 1.4rem);vertical-align:top;flex-wrap:wrap}}
.told b{{font-weight:400;min-width:17em;white-space:nowrap}}
.preview{{flex:1 1 12rem;min-width:0;overflow:hidden;white-space:nowrap;text-overflow:ellipsis;color:var(--soft);
font:13px/1.8 var(--mono)}}
details[open]>summary .preview{{visibility:hidden}}
summary:focus-visible,a:focus-visible,.text:focus-visible,.long:focus-visible,
.scrolls:focus-visible{{outline:2px solid var(--accent);outline-offset:2px}}
.chart{{display:block;width:100%;height:auto}}
.chart.narrow{{display:none}}
{CHART}
.chart.swatch,.swatch{{display:inline-block;width:auto;height:.85em;vertical-align:-.05em}}
.small-charts{{display:grid;grid-template-columns:repeat(auto-fit,minmax(17rem,1fr));gap:1rem;margin-top:1rem}}
.columns{{display:grid;grid-template-columns:repeat(auto-fit,minmax(15rem,1fr));gap:1rem;margin:.25rem 0 .75rem}}
.text,code{{font-family:var(--mono);font-size:13px}}
.text{{margin:0 0 1rem;padding:12px 14px;line-height:1.7;white-space:pre-wrap;overflow-wrap:anywhere;tab-size:4;
border:1px solid var(--edge);border-radius:8px;unicode-bidi:plaintext}}
.surprise{{font-size:15px;line-height:1.85}}
.lines{{columns:16ch;column-gap:2ch;column-rule:1px solid var(--grid)}}
.columns .text{{margin:0}}
.command{{white-space:pre;overflow-x:auto;margin:0;background:var(--bg)}}
.long{{max-height:30rem;overflow:auto;border:1px solid var(--edge);border-radius:8px;margin:0 0 1rem}}
.long .text{{border:0;margin:0}}
code{{overflow-wrap:anywhere}}
.scrolls{{overflow-x:auto;margin:.5rem 0 1rem}}
table{{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}}
th,td{{text-align:start;vertical-align:top;padding:5px 16px 5px 0;border-bottom:1px solid var(--edge)}}
th{{font-weight:600;color:var(--soft)}}
tbody th{{font-weight:400;color:var(--ink)}}
.facts th{{color:var(--soft);min-width:9rem}}
.facts td{{overflow-wrap:anywhere}}
.number{{text-align:end;white-space:nowrap}}
mark{{background:var(--l3);color:inherit;text-decoration:underline 2px var(--rule);text-underline-offset:4px}}
.legend{{margin:0 0 .75rem;font-size:13px;color:var(--soft)}}
.legend span{{white-space:nowrap;font-family:var(--mono);padding:1px 4px;border:1px solid var(--edge);color:var(--ink)}}
{SURPRISE}
.surprise span,.legend span{{text-underline-offset:4px;text-decoration-skip-ink:none;border-radius:2px}}
.surprise span:hover{{outline:2px solid var(--accent)}}
.surprise .br::before{{content:"↵";opacity:.55}}
.surprise .br.l0::before{{opacity:0}}
@media (hover:none){{.surprise span{{cursor:pointer}}
.surprise span:hover::after{{content:attr(title);position:fixed;inset:auto 0 0 0;z-index:1;padding:.8rem 1rem;
background:var(--ink);color:var(--bg);white-space:normal;text-decoration:none}}}}
@media (max-width:44rem){{body{{padding-block:1rem 3rem}}section{{padding:14px}}
.first{{grid-template-columns:minmax(0,1fr)}}.notes{{padding-inline-end:14px}}
.chart.wide{{display:none}}.chart.narrow{{display:block}}.told b{{flex-basis:100%}}
details[open]>summary .preview{{display:none}}
.surprise.lines{{font-size:13px;line-height:1.7}}.lines.tiny{{columns:10ch}}
.columns,.small-charts{{grid-template-columns:minmax(0,1fr)}}
.scrolls{{overflow:visible}}table,tbody{{display:block}}thead{{display:none}}
tr{{display:block;border:1px solid var(--edge);border-radius:8px;padding:8px 12px;margin-bottom:8px}}
th,td{{border:0}}tbody th{{display:block;padding:0;font-weight:650;color:var(--ink);
overflow-wrap:anywhere}}
tbody .number{{text-align:start}}
td{{display:grid;grid-template-columns:minmax(0,9.5rem) minmax(0,1fr);gap:8px;padding:1px 0;white-space:normal}}
td::before{{content:attr(data-label);color:var(--soft)}}td.none{{display:none}}
.facts tbody{{display:block}}.facts td{{display:block}}.facts td::before{{content:none}}
.facts tr{{border:0;border-bottom:1px solid var(--edge);border-radius:0;padding:6px 0;margin:0}}
.facts th{{font-weight:400;color:var(--soft)}}}}
@media print{{.long{{max-height:none}}.command{{white-space:pre-wrap}}
body{{max-width:none;padding:0;background:none}}nav{{display:none}}section{{border:0;padding:0}}
.chart,tr,.columns figure{{break-inside:avoid}}.surprise span,.legend span,mark{{print-color-adjust:exact;
-webkit-print-color-adjust:exact}}details::details-content{{content-visibility:visible;block-size:auto}}}}
"""


def _coloured(rules: str, colours: dict[str, str]) -> str:
    """Rules with the colours themselves: not every viewer of SVG knows variables."""
    return re.sub(r"var\(--(\w+)\)", lambda name: colours[name[1]], rules)


ALONE = f"{CHART}\n.card{{fill:var(--card)}}"

SVG_STYLE = f"""
{_coloured(ALONE, LIGHT)}
@media (prefers-color-scheme:dark){{
{_coloured(ALONE, DARK)}
}}
"""
"""The style of a drawing that is a file of its own."""
