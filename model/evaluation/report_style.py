"""The report's style sheet: readable on a phone, and dark where the reader's system is."""

STYLE = """
:root { color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1f2430; --soft: #5b6373; --line: #d9dde5;
  --first: #2563eb; --second: #b45309; }
@media (prefers-color-scheme: dark) { :root {
  --page: #12151b; --card: #1b2029; --ink: #e6e9ef; --soft: #9aa3b5; --line: #343b49;
  --first: #6ea8fe; --second: #f0a74a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; background: var(--page);
  color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.1rem; margin: 0 0 .6rem; }
p { margin: .4rem 0; }
.soft { color: var(--soft); font-size: .9rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem 1.1rem;
  margin: 1rem 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .8rem;
  margin: 1rem 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .7rem .9rem; }
.tile b { display: block; font-size: 1.7rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 1rem; }
figure { margin: 0; }
figcaption { font-size: .9rem; overflow-wrap: anywhere; }
img { max-width: 100%; height: auto; display: block; border-radius: .3rem; }
svg { width: 100%; height: auto; display: block; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: .3rem .55rem; text-align: right; border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
tr:last-child > * { border-bottom: 0; }
td.bar { width: 38%; min-width: 5rem; }
td.bar i { display: block; height: .65rem; border-radius: .2rem; background: var(--first); }
table.confusion { width: auto; }
table.confusion td { text-align: center; min-width: 2.2rem; border: 1px solid var(--card); }
table.confusion th { white-space: nowrap; }
table.confusion thead th { text-align: center; vertical-align: bottom; }
table.confusion thead span { writing-mode: vertical-rl; transform: rotate(180deg); }
@media (max-width: 34rem) { td.bar, th:last-child:empty { display: none; } }
td.text { overflow-wrap: anywhere; }
details summary { cursor: pointer; font-weight: 600; }
pre { overflow-x: auto; font-size: .82rem; line-height: 1.45; }
"""
