"""How the page looks. Every text colour has a contrast of 4.5 or more to what is behind it, every curve 3 or more."""

# Okabe and Ito's order, which the common kinds of colour blindness keep apart; each as dark, or as light, as a thin
# line on its background needs to be. By mode: light, dark.
CURVES = (
    ('#0060A8', '#5BB5F2'),
    ('#C04E00', '#FF9A5C'),
    ('#007A59', '#2FD3A2'),
    ('#A8447F', '#F09CCB'),
    ('#7D5F00', '#EFC94C'),
    ('#5A3FC0', '#B7A5FF'),
    ('#1B1B1B', '#FFFFFF'),
    ('#6B6B6B', '#ABABAB'),
)
DASHES = ('', '7 3', '2 2.5', '9 3 2 3', '12 3', '5 2 1.5 2 1.5 2', '1 3', '14 3 4 3')
# By mode: light, dark.
SURFACES = {
    'page': ('#F6F7F9', '#101418'),
    'card': ('#FFFFFF', '#1A2027'),
    'text': ('#1B2026', '#E8ECF1'),
    'soft': ('#57606A', '#A3AEBA'),
    'edge': ('#D5DAE0', '#333C46'),
    'link': ('#0B5CAD', '#7DBBFF'),
    'good': ('#0A6B41', '#5BD6A0'),
    'warn': ('#8F4A00', '#FFB468'),
    'bad': ('#B3211F', '#FF9088'),
}


def _variables(mode: int) -> str:
    named = [f'--{name}:{colours[mode]}' for name, colours in SURFACES.items()]
    return ';'.join([*named, *(f'--curve{index}:{colours[mode]}' for index, colours in enumerate(CURVES))])


_CURVES = ''.join(
    f'.c{index}{{--curve:var(--curve{index})}}.d{index} .line{{stroke-dasharray:{dash or "none"}}}'
    for index, dash in enumerate(DASHES)
)

STYLE = (
    ':root{color-scheme:light dark;' + _variables(0) + '}'
    '@media (prefers-color-scheme:dark){:root{'
    + _variables(1)
    + '}}'
    + _CURVES
    + """
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--text);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;
overflow-wrap:break-word}
header,main,footer{max-width:76rem;margin:0 auto;padding:0 1rem}
header{padding-top:1.5rem}
h1{font-size:1.6rem;line-height:1.2;margin:0 0 .4rem;overflow-wrap:anywhere}
h2{font-size:1.25rem;margin:2.4rem 0 .7rem;scroll-margin-top:1rem}
h3{font-size:1rem;margin:0}
p{margin:.4rem 0}
a{color:var(--link)}
:focus-visible{outline:3px solid var(--link);outline-offset:2px;border-radius:4px}
.unseen{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
.skip{position:absolute;left:-100rem}
.skip:focus{left:1rem;top:.5rem;background:var(--card);padding:.3rem .6rem;z-index:9}
.soft,.unit,.note,figcaption small{color:var(--soft)}
.unit,.note{font-size:.82rem;line-height:1.4;margin:.1rem 0}
nav ul{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;list-style:none;padding:0;margin:.9rem 0 0}
nav a{display:inline-block;padding:.3rem 0}
.badge{display:inline-block;border:1.5px solid currentColor;border-radius:1rem;padding:0 .7rem;font-size:.9rem;
font-weight:600;vertical-align:.2rem;white-space:nowrap}
.good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.7rem;margin:1.1rem 0 0;padding:0}
.tiles>div{background:var(--card);border:1px solid var(--edge);border-radius:.6rem;padding:.6rem .8rem}
.tiles dt{font-size:.82rem;color:var(--soft);line-height:1.3}
.tiles dd{margin:.15rem 0 0;font-size:1.35rem;font-weight:600;line-height:1.2;font-variant-numeric:tabular-nums}
.tiles dd small{display:block;font-size:.8rem;font-weight:400;color:var(--soft);margin-top:.15rem;line-height:1.3}
.card{background:var(--card);border:1px solid var(--edge);border-radius:.6rem;padding:.8rem 1rem;margin:.7rem 0}
.card>:first-child{margin-top:0}.card>:last-child{margin-bottom:0}
.missing{border-left:.35rem solid var(--warn)}
.verdict{border-left:.35rem solid currentColor}.verdict>*{color:var(--text)}
.verdict>.word{color:inherit;font-weight:700}
ul{padding-left:1.2rem;margin:.4rem 0}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,21rem),1fr));gap:.8rem}
.gallery>.card{margin:0;min-width:0}
.card.side .note{margin-top:.6rem}
figure{margin:0}
figure.chart{background:var(--card);border:1px solid var(--edge);border-radius:.6rem;padding:.7rem .8rem;min-width:0}
figcaption{display:flex;flex-wrap:wrap;justify-content:space-between;gap:0 1rem;align-items:baseline}
.switch{font-size:.82rem;color:var(--soft);padding:.15rem 0;cursor:pointer}
.switch input{accent-color:var(--link);margin:0 .25rem 0 0;vertical-align:-.1rem}
.plot{touch-action:pan-y;margin-top:.3rem}
svg{display:block;width:100%;height:auto}
svg text{font-size:11px;fill:var(--soft);font-variant-numeric:tabular-nums}
.x text{text-anchor:middle}.y text{text-anchor:end}
.axis{stroke:var(--soft);fill:none}
.grid{stroke:var(--edge);fill:none;stroke-width:.8}
.level{stroke:var(--soft);fill:none;stroke-dasharray:1.5 3;stroke-width:1.2}
svg .level-name{text-anchor:end;font-size:10px}
.line{stroke:var(--curve);fill:none;stroke-width:1.9;stroke-linejoin:round}
.raw{stroke:var(--curve);fill:none;stroke-width:.9;opacity:.5;stroke-linejoin:round}
.faint{stroke:var(--curve);fill:none;stroke-width:.8;opacity:.42}
.mark{fill:var(--curve);stroke:var(--card);stroke-width:.7}
.cursor{stroke:var(--text);stroke-width:1;visibility:hidden}
.reading .cursor{visibility:visible}
.logarithmic{display:none}
.chart:has(.log:checked) .linear{display:none}
.chart:has(.log:checked) .logarithmic{display:inline}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.05rem 1rem;padding:0;margin:.1rem 0 .3rem;font-size:.87rem}
.legend li[role=button]{cursor:pointer;border-radius:.3rem}
.legend li[aria-pressed=true]{outline:1.5px solid var(--soft)}
.alone .curve:not(.chosen){opacity:.13}
.named{display:flex;align-items:center;gap:.5rem}
.named .swatch{flex:none}
.of3 img,.of3 .columns{width:75%}
.of2 img,.of2 .columns{width:50%}
.legend li{display:inline-flex;align-items:center;gap:.4rem;min-width:0;overflow-wrap:anywhere}
.legend output,.where output{font-weight:600;font-variant-numeric:tabular-nums}
.swatch{width:32px;height:12px;flex:none}
.where{font-size:.82rem;color:var(--soft);margin:.1rem 0}
details{margin:.4rem 0}
summary{cursor:pointer;padding:.2rem 0;color:var(--link)}
.chart summary{font-size:.87rem}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums;width:100%}
th,td{text-align:left;vertical-align:top;padding:.3rem .7rem .3rem 0;border-bottom:1px solid var(--edge);
overflow-wrap:anywhere}
.named span,.overview td{overflow-wrap:break-word}
thead th{color:var(--soft);font-weight:600}
tbody th{font-weight:600}
.scrolls{overflow:auto;max-height:22rem;max-width:100%}
.scrolls th,.scrolls td{overflow-wrap:normal;white-space:nowrap}
.scrolls thead th{position:sticky;top:0;background:var(--card)}
.facts tbody th{width:12rem;font-weight:600}
.gallery .facts tbody th{width:8rem}
.facts thead{display:none}
.differ td{font-family:ui-monospace,monospace;font-size:.82rem}
pre,code{font-family:ui-monospace,SFMono-Regular,Menlo,monospace;font-size:.85rem}
pre{background:var(--card);border:1px solid var(--edge);border-radius:.6rem;padding:.8rem;margin:.5rem 0;
white-space:pre-wrap;overflow-wrap:anywhere;user-select:all}
.config pre{max-height:30rem;overflow:auto;user-select:text}
.slider{display:flex;flex-wrap:wrap;align-items:center;gap:.3rem 1rem;position:sticky;top:0;background:var(--card);
padding:.5rem 0;z-index:2}
.slider input{flex:1 1 14rem;min-width:0;height:1.8rem;accent-color:var(--link)}
.slider output{font-weight:600;min-width:6rem}
.sheets{display:grid;grid-template-columns:minmax(0,1fr);gap:.35rem .9rem;align-items:end}
.sheets .columns~.columns{display:none}
.sheets img{display:block;width:100%;height:auto}
.columns{display:grid;grid-auto-flow:column;grid-auto-columns:1fr;gap:4px;font-size:.82rem;color:var(--soft);margin:0;
padding:0;list-style:none}
.columns li{min-width:0}
.sheet>h4{margin:.8rem 0 .2rem;font-size:.95rem}
.js .sheet[hidden]{display:none}
.js .sheet>h4.counted{display:none}
html:not(.js) .needs-script{display:none}
img.whole{max-width:100%;height:auto;background:#fff;border-radius:.4rem}
footer{color:var(--soft);font-size:.85rem;padding-top:2rem;padding-bottom:2rem}
@media (max-width:40rem){
table.stacked thead{display:none}
table.stacked,table.stacked tbody,table.stacked tr,table.stacked th,table.stacked td{display:block;width:auto}
table.stacked tr{padding:.45rem 0;border-bottom:1px solid var(--edge)}
table.stacked th,table.stacked td{border:0;padding:.05rem 0}
table.stacked td[data-label]:not(:empty)::before{content:attr(data-label) ": ";color:var(--soft)}
table.facts td::before{content:none!important}
.tiles{grid-template-columns:repeat(2,minmax(0,1fr))}
.columns{font-size:.75rem}
.card{padding:.7rem .7rem}
}
@media (min-width:52rem){.overview tbody th{min-width:9.5rem}
.sheets{grid-template-columns:repeat(2,minmax(0,1fr))}
.sheets .columns~.columns{display:grid}}
@media print{
:root{"""
    + _variables(0)
    + """}
body{font-size:11pt;background:#fff}
nav,.switch,.slider,.skip,summary{display:none}
figure.chart,.card,tr,.sheet{break-inside:avoid}
h2{break-after:avoid}
.js .sheet[hidden]{display:block}
.js .sheet>h4.counted{display:block}
.gallery{grid-template-columns:1fr 1fr}
}
"""
)
