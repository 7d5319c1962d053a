/* Labels against accuracy, with its lower bound, as SVG. */
"use strict";

const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/* points: {labels, accuracy, lower, commoner}, in the order of answers. words: {labels, title}. */
function drawnCurve(points, words) {
  const wide = 336, high = 190, left = 48, right = 10, top = 10, bottom = 34;
  const last = points[points.length - 1];
  const first = points[0].labels, end = Math.max(last.labels, first + 10);
  const least = Math.min(...points.map((p) => Math.min(p.lower, p.commoner)));
  const floor = Math.max(0, Math.floor(Math.min(least, 0.5) * 10) / 10);
  const x = (labels) => left + ((labels - first) / (end - first)) * (wide - left - right);
  const y = (share) => top + ((1 - share) / (1 - floor)) * (high - top - bottom);
  const path = (name) => points.map((p, i) => `${i ? "L" : "M"}${x(p.labels).toFixed(1)} ${y(p[name]).toFixed(1)}`).join("");
  const back = [...points].reverse().map((p) => `L${x(p.labels).toFixed(1)} ${y(p.lower).toFixed(1)}`).join("");
  const chart = svg("svg", { class: "chart", viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": words.title });
  for (let share = floor; share <= 1.0001; share += floor < 0.5 ? 0.25 : 0.1) {
    const at = y(Math.min(share, 1));
    chart.append(svg("line", { class: "grid", x1: left, x2: wide - right, y1: at, y2: at }));
    chart.append(svg("text", { x: left - 7, y: at + 4, "text-anchor": "end" }, `${Math.round(share * 100)} %`));
  }
  chart.append(svg("path", { class: "band", d: `${path("accuracy")}${back}Z` }));
  chart.append(svg("path", { class: "commoner", d: path("commoner") }));
  chart.append(svg("path", { class: "low", d: path("lower") }));
  chart.append(svg("path", { class: "main", d: path("accuracy") }));
  chart.append(svg("circle", { class: "dot", r: 4, cx: x(last.labels), cy: y(last.accuracy) }));
  chart.append(svg("text", { x: left, y: high - 14, "text-anchor": "start" }, String(first)));
  chart.append(svg("text", { x: wide - right, y: high - 14, "text-anchor": "end" }, `${end} ${words.labels}`));
  return chart;
}
