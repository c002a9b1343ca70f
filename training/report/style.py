"""How the report of a run looks: on a desk and on a phone, light and dark, on paper."""

import re

# Surprise has one hue that deepens; on dark ground it lightens less, so that letters stand out on every step of it.
LIGHT = {
    "ground": "#fbfaf8", "card": "#ffffff", "ink": "#1d1b19", "soft": "#5c5751", "rule": "#dcd7d0",
    "train": "#a15600", "validation": "#0b5cad", "link": "#0b5cad", "mark": "#ffe08a",
    "s0": "#ffffff", "s1": "#fff3e3", "s2": "#ffe5c4", "s3": "#ffd09b", "s4": "#fdb573", "s5": "#f79655",
    "s6": "#f0784b",
}  # fmt: skip
DARK = {
    "ground": "#151413", "card": "#1d1c1a", "ink": "#ece8e2", "soft": "#aaa39a", "rule": "#3a3733",
    "train": "#f0a95a", "validation": "#7db8f5", "link": "#7db8f5", "mark": "#6b5200",
    "s0": "#1d1c1a", "s1": "#2c231a", "s2": "#3d2a18", "s3": "#553316", "s4": "#6f3c14", "s5": "#8b4313",
    "s6": "#a94a16",
}  # fmt: skip


def _variables(colours: dict[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())


SURPRISE = "\n".join(f".s{at}{{background:var(--s{at})}}" for at in range(7))

CHART = """\
.chart text{fill:var(--soft);font:13px system-ui,-apple-system,"Segoe UI","Noto Sans","DejaVu Sans",sans-serif;
font-variant-numeric:tabular-nums}
.chart .grid{stroke:var(--rule)}
.chart .axis{stroke:var(--soft)}
.series{fill:none;stroke-width:2;stroke-linejoin:round}
.series circle{stroke:none}
.train{stroke:var(--train);stroke-dasharray:6 4}
.train circle{fill:var(--train)}
.validation,.plain{stroke:var(--validation)}
.validation circle,.plain circle{fill:var(--validation)}
.chart circle.best{fill:none;stroke:var(--ink);stroke-width:2}"""
"""How a drawing's lines and words look, in the page and in a file of its own."""

STYLE = f"""
:root{{{_variables(LIGHT)}color-scheme:light dark}}
@media (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}
*{{box-sizing:border-box}}
html{{-webkit-text-size-adjust:100%;text-size-adjust:100%}}
body{{margin:0 auto;padding:1.5rem 1rem 4rem;max-width:62rem;background:var(--ground);color:var(--ink);
font:1rem/1.55 system-ui,-apple-system,"Segoe UI","Noto Sans","DejaVu Sans",sans-serif}}
h1{{font-size:1.9rem;line-height:1.2;margin:0 0 .25rem;overflow-wrap:anywhere}}
h2{{font-size:1.35rem;margin:0 0 .75rem}}
h3{{font-size:1.05rem;margin:1.25rem 0 .5rem}}
p{{max-width:46rem;margin:.5rem 0 1rem}}
a{{color:var(--link)}}
header p,footer,figcaption{{color:var(--soft)}}
section{{background:var(--card);border:1px solid var(--rule);border-radius:.5rem;padding:1.25rem;margin:1.25rem 0}}
dl{{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.6rem;margin:1rem 0}}
dl div{{display:flex;flex-direction:column;justify-content:space-between;background:var(--card);
border:1px solid var(--rule);border-radius:.5rem;padding:.6rem .8rem}}
dt{{color:var(--soft);font-size:.82rem;line-height:1.35}}
dd{{margin:.2rem 0 0;font-size:1.3rem;font-variant-numeric:tabular-nums}}
nav ul,.legend{{list-style:none;margin:0;padding:0;display:flex;flex-wrap:wrap;gap:.3rem 1.2rem}}
.notes{{margin:1rem 0;padding:.75rem 1rem .75rem 2rem;background:var(--card);border:1px solid var(--rule);
border-left:.3rem solid var(--train);border-radius:.5rem}}
figure{{margin:0;min-width:0}}
figcaption{{font-size:.9rem;margin:.25rem 0 .5rem}}
details{{border-top:1px solid var(--rule);padding:.3rem 0}}
section>.small-charts+details{{margin-top:1rem}}
.preview{{display:block;overflow:hidden;white-space:nowrap;text-overflow:ellipsis;color:var(--soft);
font-size:.9rem;padding-inline-start:1.1rem}}
details[open]>summary>.preview{{display:none}}
summary{{cursor:pointer;padding:.3rem 0;font-variant-numeric:tabular-nums}}
summary:focus-visible,a:focus-visible,.text:focus-visible,
.scrolls:focus-visible{{outline:2px solid var(--link);outline-offset:2px}}
.chart{{display:block;width:100%;height:auto}}
.chart.narrow{{display:none}}
{CHART}
.chart.swatch,.swatch{{display:inline-block;width:auto;height:.85em;vertical-align:-.05em}}
.small-charts{{display:grid;grid-template-columns:repeat(auto-fit,minmax(17rem,1fr));gap:1rem;margin-top:1rem}}
.columns{{display:grid;grid-template-columns:repeat(auto-fit,minmax(15rem,1fr));gap:1rem;margin:.25rem 0 .75rem}}
.text,code{{font-family:ui-monospace,"Cascadia Mono","Noto Sans Mono","DejaVu Sans Mono",monospace;font-size:.86rem}}
.text{{margin:0 0 1rem;padding:.75rem;line-height:1.6;white-space:pre-wrap;overflow-wrap:anywhere;
background:var(--s0);border:1px solid var(--rule);border-radius:.35rem;unicode-bidi:plaintext}}
.columns .text{{margin:0}}
.command{{white-space:pre;overflow-x:auto}}
.long{{max-height:30rem;overflow:auto}}
code{{overflow-wrap:anywhere}}
.scrolls{{overflow-x:auto;margin:.5rem 0 1rem}}
table{{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums}}
th,td{{text-align:start;vertical-align:top;padding:.3rem .9rem .3rem 0;border-bottom:1px solid var(--rule)}}
th{{font-weight:600}}
tbody th{{font-weight:400}}
.facts th{{color:var(--soft);min-width:9rem}}
.number{{text-align:end;white-space:nowrap}}
mark{{background:var(--mark);color:inherit;text-decoration:underline;text-decoration-thickness:2px;
text-underline-offset:3px}}
.legend{{margin:0 0 .75rem;font-size:.9rem}}
.legend span,.notes code{{white-space:nowrap}}
.legend span{{font-family:ui-monospace,"DejaVu Sans Mono",monospace;padding:.1rem .3rem;border:1px solid var(--rule)}}
{SURPRISE}
.s4{{text-decoration:underline dotted;text-underline-offset:3px}}
.s5{{text-decoration:underline;text-underline-offset:3px}}
.s6{{text-decoration:underline double;text-underline-offset:3px}}
.surprise span:hover{{outline:2px solid var(--ink)}}
.surprise .br::before{{content:"⏎";position:absolute;background:inherit;color:var(--soft)}}
@media (hover:none){{.surprise span{{cursor:pointer}}
.surprise span:hover::after{{content:attr(title);position:fixed;inset:auto 0 0 0;z-index:1;padding:.8rem 1rem;
background:var(--ink);color:var(--ground);white-space:normal;text-decoration:none}}}}
@media (max-width:40rem){{body{{padding:1rem .6rem 3rem}}section{{padding:.9rem .7rem}}.chart.wide{{display:none}}
.chart.narrow{{display:block}}.facts th,.facts td{{display:block;padding:.3rem 0 0;border:0}}
.facts tr{{display:block;padding-bottom:.3rem;border-bottom:1px solid var(--rule)}}}}
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
