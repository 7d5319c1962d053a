"""The page of a lot: one HTML file without a script that fetches nothing, to print or to send beside the document."""

from __future__ import annotations

import datetime
import html

from isthmus.contracts.lot import UNBOUND_PPM, LotCertificate

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --line: #8884; --quiet: #666; }
@media (prefers-color-scheme: dark) { :root { --quiet: #aaa; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.quiet { color: var(--quiet); } table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; padding: .35rem .5rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { white-space: nowrap; } td.number { text-align: right; font-variant-numeric: tabular-nums; font-size: 1.2rem; white-space: nowrap; }
code, pre { font: 13px/1.45 ui-monospace, monospace; } pre { white-space: pre-wrap; border: 1px solid var(--line); padding: .75rem; }
@media print { body { margin: 0; max-width: none; } @page { margin: 2cm; } }
"""


def lot_page(said: LotCertificate, file: str, public_key: str) -> str:
    """HTML. file: name of the document that the page stands beside. public_key: the exchange's, that the document was checked with."""
    rows = "".join(f'<tr><td>{name}</td><td class="number">{count:,}</td></tr>' for name, count in _grades(said))
    models = "".join(
        f"<tr><td>{_text(one.scenario)}, {_text(one.site)}, tier {_text(one.tier)}, until {_day(one.not_after_s * 1000)}"
        f"<br><code>{_text(one.certificate_digest)}</code></td>"
        f'<td class="number">{one.parts:,}</td><td>{_bound(one.error_bound_ppm)}</td></tr>'
        for one in said.models
    )
    bound = f"{said.error_bound_ppm / 1e4:g} %"
    sure = f"{said.confidence_ppm / 1e4:g} %"
    promised = (
        f"Of the {said.graded:,} parts that were graded, the model's error is <b>at most {bound}</b> at {sure} confidence. It was proved on"
        " held-out parts before this lot, and holds for parts like those. It is no count of errors in this lot."
        if said.error_bound_ppm < UNBOUND_PPM
        else "A certificate of this lot bounds <b>no error among graded parts</b>: it promises something else, such as few false alarms."
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>Lot {_text(said.lot)}</title><style>{STYLE}</style></head><body>
<p class="quiet">Lot certificate</p><h1>{_text(said.lot)}</h1>
<p>Judged for <b>{_text(said.party)}</b>, {_day(said.first_at_ms)} to {_day(said.last_at_ms)}. Signed {_day(said.issued_at_ms)}.</p>
<table>{rows}</table>
<h2>What is promised</h2>
<p>{promised} Parts left to a person were not graded by the model.</p>
<table><tr><th>Certificate</th><th>Parts</th><th>Among graded</th></tr>{models}</table>
<h2>Check it yourself</h2>
<p>This page proves nothing. The file <code>{_text(file)}</code> does, without a network:</p>
<ol><li>Take the exchange's public key from the exchange or its operator, not from who gave you this page.</li>
<li>Store it as <code>exchange.pub</code> and run this:
<pre>isthmus lot verify {_text(file)} --public-key exchange.pub</pre></li>
<li>Compare what it prints with this page: lot, grades, bound, certificate.</li></ol>
<p class="quiet">{said.receipts:,} receipts, all that the lot has among the first {said.tree_size:,} of the log
<i>{_text(said.log)}</i>. Their list: <code>{_text(said.receipts_digest)}</code>.
Signed by the key <code>{_text(public_key)}</code>.</p></body></html>
"""


def _grades(said: LotCertificate) -> list[tuple[str, int]]:
    words = [", ".join(sorted({one.classes[place] for one in said.models})) for place in (0, 1)]
    return [
        (f"Graded <b>{_text(words[0] or 'good')}</b>", said.counts["good"]),
        (f"Graded <b>{_text(words[1] or 'defect')}</b>", said.counts["defect"]),
        ("Left to a person", said.counts["person"]),
        ("Parts in all", said.parts),
    ]


def _bound(ppm: int) -> str:
    return f"at most {ppm / 1e4:g} % wrong" if ppm < UNBOUND_PPM else "no bound"


def _text(value: str) -> str:
    return html.escape(value)


def _day(at_ms: int) -> str:
    return datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
