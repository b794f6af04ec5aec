"""The style sheet of the report: an article's column, light and dark, on screen and on paper."""

from vaegan.figures import theme

STYLE = f"""
:root {{
  --paper: #fbfaf8; --ink: {theme.INK}; --muted: #5d616a; --rule: #e2e0db;
  --accent: {theme.ACCENT}; --card: {theme.PAPER}; --edge: #e8e6e1;
  --serif: Charter, "Bitstream Charter", "Iowan Old Style", Cambria, Georgia, serif;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif;
}}
@media (prefers-color-scheme: dark) {{
  :root {{
    --paper: #16171a; --ink: #e6e4df; --muted: #a3a5ab; --rule: #33353b; --accent: #f5925a;
    --edge: #16171a;
  }}
}}
* {{ box-sizing: border-box; }}
html {{ -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }}
body {{
  margin: 0; padding: 4.5rem 1.25rem 6rem; background: var(--paper); color: var(--ink);
  font: 1.125rem/1.62 var(--serif); overflow-wrap: break-word;
}}
header, main {{ max-width: 64rem; margin: 0 auto; }}
header p, h1, h2, section > p, nav {{ max-width: 42rem; }}
.kicker {{
  margin: 0 0 .9rem; color: var(--accent); font: 600 .8125rem/1.4 var(--sans);
  letter-spacing: .09em; text-transform: uppercase;
}}
h1 {{
  margin: 0 0 1rem; font-size: clamp(2rem, 1.4rem + 2.4vw, 3rem); line-height: 1.12;
  font-weight: 700; letter-spacing: -.015em; text-wrap: balance;
}}
.summary {{ margin: 0; color: var(--muted); font-size: 1.3125rem; line-height: 1.5; }}
.facts {{
  display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: 1.1rem 2rem;
  margin: 2.75rem 0; padding: 1.4rem 0; border: solid var(--rule); border-width: 1px 0;
  font-family: var(--sans);
}}
.facts dt {{ color: var(--muted); font-size: .8125rem; line-height: 1.4; }}
.facts dd {{
  margin: .1rem 0 0; font-size: 1rem; line-height: 1.4; font-weight: 600;
  font-variant-numeric: tabular-nums;
}}
nav ol {{
  margin: 0; padding: 0; columns: 2; column-gap: 2rem; list-style-position: inside;
  font: .9375rem/1.5 var(--sans);
}}
nav li {{ padding: .2rem 0; break-inside: avoid; color: var(--muted); }}
a {{ color: inherit; text-decoration-color: var(--accent); text-underline-offset: .2em; }}
a:hover {{ color: var(--accent); }}
section {{ margin-top: 4.25rem; }}
h2 {{
  margin: 0 0 .9rem; font-size: 1.6875rem; line-height: 1.25; letter-spacing: -.01em;
  text-wrap: balance; scroll-margin-top: 1.5rem;
}}
section > p {{ margin: 0 0 1.1rem; }}
.figures {{
  display: flex; flex-wrap: wrap; align-items: flex-start; gap: 2rem 1.75rem; margin: 1.9rem 0 0;
}}
figure {{ margin: 0; max-width: 100%; }}
.card {{
  overflow: hidden; border-radius: 6px; background: var(--card); box-shadow: 0 0 0 1px var(--edge);
}}
img, video {{ display: block; width: 100%; height: auto; }}
figcaption {{
  max-width: 42rem; margin-top: .7rem; color: var(--muted); font: .9375rem/1.5 var(--sans);
}}
figcaption b {{ color: var(--ink); font-weight: 600; }}
.caption {{ margin: 1.5rem 0 .7rem; color: var(--muted); font: .9375rem/1.5 var(--sans); }}
.table {{ max-width: 100%; margin: 0 0 1.5rem; overflow-x: auto; }}
table {{
  border-collapse: collapse; font: .9375rem/1.45 var(--sans); font-variant-numeric: tabular-nums;
}}
th, td {{
  padding: .45rem 1.6rem .45rem 0; border-bottom: 1px solid var(--rule); text-align: left;
}}
th {{ border-bottom-color: var(--ink); font-weight: 600; vertical-align: bottom; }}
td {{ overflow-wrap: normal; }}
td:first-child {{ white-space: nowrap; }}
th:last-child, td:last-child {{ padding-right: 0; }}
.number {{ text-align: right; }}
@media (max-width: 40rem) {{
  body {{ padding: 2.5rem 1.1rem 4rem; font-size: 1.0625rem; }}
  .summary {{ font-size: 1.1875rem; }}
  .facts {{ grid-template-columns: 1fr 1fr; gap: .9rem 1.25rem; margin: 2rem 0; }}
  nav ol {{ columns: 1; }}
  section {{ margin-top: 3.25rem; }}
  h2 {{ font-size: 1.4375rem; }}
  .figures > figure {{ width: 100%; }}
  .card {{ border-radius: 4px; }}
  th, td {{ padding-right: 1.1rem; }}
}}
@media print {{
  :root {{
    --paper: #fff; --ink: #000; --muted: #444; --rule: #bbb; --accent: {theme.ACCENT}; --edge: #ddd;
  }}
  @page {{ margin: 18mm 16mm; }}
  body {{ padding: 0; font-size: 10.5pt; }}
  nav {{ display: none; }}
  section {{ margin-top: 2rem; }}
  h2, .facts {{ break-after: avoid; }}
  figure, tr {{ break-inside: avoid; }}
  img, video {{ max-height: 200mm; width: auto; max-width: 100%; }}
}}
"""
