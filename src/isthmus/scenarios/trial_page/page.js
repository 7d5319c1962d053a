"use strict";
(() => {
  const d = JSON.parse(document.getElementById("trial").textContent);
  const t = (key, values = {}) => d.texts[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
  const STATES = ["right", "wrong", "person"];
  const SVG = "http://www.w3.org/2000/svg";
  const css = (name) => `var(--${name})`;

  function el(tag, attributes = {}, ...children) {
    const svg = ["svg", "rect", "line", "text", "path", "g", "title", "circle"].includes(tag);
    const node = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== false && value !== null) node.setAttribute(name, value === true ? "" : value);
    }
    for (const child of children) node.append(child);
    return node;
  }

  const into = (id, ...children) => document.getElementById(id).append(...children);
  const percent = (share) => {
    const value = 100 * share;
    return value >= 10 || Math.abs(value - Math.round(value)) < 0.05 ? `${Math.round(value)} %` : `${value.toFixed(1)} %`;
  };
  const keys = () => el("div", { class: "keys" }, ...STATES.map((s) => el("span", { class: "key" }, el("i", { class: `${s}-ground` }), t(`bar.${s}`))));

  function share() {
    const total = d.tested.reduce((a, b) => a + b, 0);
    const words = STATES.map((s, i) => `${percent(d.tested[i] / total)} ${t(`bar.${s}`)}`);
    const bar = el("div", { class: "bar", role: "img", "aria-label": `${t("bar.caption", { tested: total })}: ${words.join(", ")}` });
    STATES.forEach((s, i) => {
      if (!d.tested[i]) return;
      const part = d.tested[i] / total;
      bar.append(el("i", { class: `${s}-ground`, style: `flex:${part} 1 0`, title: words[i] }, part > 0.09 ? percent(part) : ""));
    });
    const legend = keys();
    legend.append(el("span", {}, `${t("bar.caption", { tested: total })}.`));
    into("share", bar, legend);
  }

  function light() {
    const study = d.light;
    if (!study.images.length) return;
    const last = study.stops.length - 1;
    const slider = el("input", { type: "range", min: 0, max: last, step: 1, value: study.unchanged, id: "light-level", "aria-label": t("light.slider") });
    const output = el("output", { for: "light-level" });
    const now = el("span", { class: "now", "aria-live": "polite" });
    const cells = study.images.map((image) => el("div", { class: "cell", title: image.name }, el("img", { src: image.thumb, alt: image.name })));
    const grid = el("div", { class: "grid relit" }, ...cells);
    const chart = levels(study);
    const note = [t("light.sample", { n: study.images.length, tested: d.tested.reduce((a, b) => a + b, 0) })];
    if (study.images.length < study.wanted) note.push(t("light.short", { n: study.images.length, wanted: study.wanted }));

    function show() {
      const level = Number(slider.value);
      const factor = 2 ** study.stops[level];
      for (const channel of "rgb") document.getElementById(`gain-${channel}`).setAttribute("slope", factor);
      const counts = [0, 0, 0];
      cells.forEach((cell, i) => {
        const state = study.images[i].states[level];
        counts[state] += 1;
        cell.className = `cell ${STATES[state]}`;
        cell.title = `${study.images[i].name}: ${t(`bar.${STATES[state]}`)}`;
      });
      const said = level === study.unchanged ? t("light.same") : t("light.stops", { factor: Number(factor.toPrecision(2)) });
      output.textContent = said;
      slider.setAttribute("aria-valuetext", said);
      now.textContent = t("light.now", { right: counts[0], wrong: counts[1], person: counts[2] });
      chart.mark(level);
    }
    slider.addEventListener("input", show);
    into(
      "light",
      el("h2", {}, t("light.title")),
      el("p", { class: "lead" }, t("light.lead", { levels: study.stops.length })),
      el("div", { class: "card" }, el("div", { class: "slide" }, el("label", { for: "light-level" }, t("light.slider")), slider, output, now), chart.svg, keys(), grid, el("p", { class: "about" }, note.join(" "))),
    );
    show();
  }

  function levels(study) {
    const width = 720, height = 118, gap = 5, n = study.stops.length, one = (width - gap * (n - 1)) / n, top = 4, floor = height - 22;
    const svg = el("svg", { class: "levels", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": t("light.chart") });
    const frames = study.stops.map((stops, level) => {
      const counts = [0, 0, 0];
      study.images.forEach((image) => { counts[image.states[level]] += 1; });
      const x = level * (one + gap);
      let y = floor;
      const group = el("g");
      [[0, "right"], [1, "wrong"], [2, "person"]].forEach(([i, name]) => {
        const h = (counts[i] / study.images.length) * (floor - top);
        y -= h;
        if (h > 0) group.append(el("rect", { x, y, width: one, height: Math.max(h - 1, 0.8), rx: 3, fill: css(name), opacity: name === "person" ? 0.45 : 1 }));
      });
      group.append(el("title", {}, `${2 ** stops < 1 ? (2 ** stops).toPrecision(2) : Number((2 ** stops).toPrecision(2))}×: ${counts[0]} / ${counts[1]} / ${counts[2]}`));
      const label = stops === 0 ? "1×" : stops % 1 === 0 ? (stops < 0 ? `1/${2 ** -stops}×` : `${2 ** stops}×`) : "";
      const frame = el("rect", { x: x - 2, y: top - 3, width: one + 4, height: floor - top + 5, rx: 5, fill: "none", stroke: css("ink"), "stroke-width": 2, visibility: "hidden" });
      svg.append(group, frame, el("text", { x: x + one / 2, y: height - 5, "text-anchor": "middle" }, label));
      return frame;
    });
    return { svg, mark: (level) => frames.forEach((frame, i) => frame.setAttribute("visibility", i === level ? "visible" : "hidden")) };
  }

  function meter(image) {
    const svg = el("svg", { class: "meter", viewBox: "0 0 120 12", preserveAspectRatio: "none", "aria-hidden": "true" });
    const two = d.binary, limit = d.limit, threshold = Math.min(d.threshold, limit);
    const x = (v) => (two ? 60 + (60 * Math.max(-limit, Math.min(limit, v))) / limit : (120 * Math.max(0, Math.min(limit, v))) / limit);
    svg.append(el("rect", { x: 0, y: 4, width: 120, height: 4, rx: 2, fill: css("line") }));
    const from = two ? x(-threshold) : 0;
    svg.append(el("rect", { x: from, y: 4, width: x(threshold) - from, height: 4, fill: css("person"), opacity: 0.75 }));
    svg.append(el("rect", { x: Math.max(0, Math.min(116, x(two ? image.score : image.margin) - 2)), y: 0, width: 4, height: 12, rx: 2, fill: css(STATES[image.state] === "person" ? "ink" : STATES[image.state]) }));
    return svg;
  }

  function item(shown) {
    const image = shown.image;
    const pic = el("div", { class: "pic" }, el("img", { class: "photo", src: shown.thumb, alt: image.name }));
    if (shown.heat) pic.append(el("img", { class: "heat", src: shown.heat, alt: "" }));
    const says = image.verdict === image.truth ? el("span", {}, t("item.is", { name: d.answers[image.truth] })) : el("span", {}, el("b", {}, t("item.says", { name: d.answers[image.verdict] })), `, ${t("item.is", { name: d.answers[image.truth] })}`);
    return el("div", { class: "item" }, pic, el("div", { class: "text" }, says, meter(image), el("span", { class: "name", title: image.name }, image.name)));
  }

  function look() {
    const section = document.getElementById("look");
    section.append(el("h2", {}, t("look.title")));
    const any = ["doubtful", "wrong", "unlike"].some((shelf) => d.shelves[shelf].some((shown) => shown.heat));
    if (any) {
      const box = el("input", { type: "checkbox", id: "heat" });
      box.addEventListener("change", () => section.classList.toggle("with-heat", box.checked));
      section.append(el("label", { class: "switch" }, box, t("look.heat")), el("p", { class: "heat-legend" }, t("look.heat.legend", { first: d.answers[0], second: d.answers[1] })));
    }
    for (const shelf of ["doubtful", "wrong", "unlike"]) {
      const shown = d.shelves[shelf];
      if (!shown.length) continue;
      const none = (shelf === "doubtful" && shown[0].image.state !== 2) || (shelf === "wrong" && shown[0].image.state !== 1);
      section.append(el("h3", {}, t(`look.${shelf}`)), el("p", { class: "lead" }, t(none ? `look.${shelf}.none` : `look.${shelf}.lead`)), el("div", { class: "shelf" }, ...shown.map(item)));
    }
  }

  function scores() {
    const width = 520, height = 250, bins = 36, floor = height - 26, two = d.binary;
    const low = two ? -d.limit : 0, high = d.limit;
    const columns = Array.from({ length: bins }, () => [0, 0]);
    d.scores.forEach(([value, side]) => {
      const bin = Math.max(0, Math.min(bins - 1, Math.floor(((value - low) / (high - low)) * bins)));
      columns[bin][side] += 1;
    });
    const most = Math.max(1, ...columns.map(([a, b]) => (two ? Math.max(a, b) : a + b)));
    const middle = two ? (floor + 16) / 2 : floor;
    const svg = el("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": t("scores.title") });
    const x = (v) => ((v - low) / (high - low)) * width;
    const cuts = two ? [-d.threshold, d.threshold] : [d.threshold];
    svg.append(el("rect", { x: two ? x(cuts[0]) : 0, y: 16, width: two ? Math.max(1, x(cuts[1]) - x(cuts[0])) : x(cuts[0]), height: floor - 16, fill: css("person"), opacity: 0.14 }));
    columns.forEach(([a, b], i) => {
      const left = (i * width) / bins + 1, wide = width / bins - 2;
      if (two) {
        const up = (a / most) * (middle - 20), down = (b / most) * (floor - middle - 2);
        svg.append(el("rect", { x: left, y: middle - up, width: wide, height: up, rx: 2, fill: css("first") }), el("rect", { x: left, y: middle + 1, width: wide, height: down, rx: 2, fill: css("second") }));
      } else {
        const right = (a / most) * (floor - 20), wrong = (b / most) * (floor - 20);
        svg.append(el("rect", { x: left, y: floor - right, width: wide, height: right, rx: 2, fill: css("right") }), el("rect", { x: left, y: floor - right - wrong, width: wide, height: wrong, rx: 2, fill: css("wrong") }));
      }
    });
    cuts.forEach((cut) => svg.append(el("line", { x1: x(cut), x2: x(cut), y1: 16, y2: floor, stroke: css("ink"), "stroke-dasharray": "5 4", "stroke-width": 1.4 })));
    svg.append(el("line", { x1: 0, x2: width, y1: middle, y2: middle, stroke: css("soft"), "stroke-width": 1 }));
    if (two) {
      svg.append(el("text", { x: 2, y: height - 8 }, `← ${d.answers[0]}`), el("text", { x: width - 2, y: height - 8, "text-anchor": "end" }, `${d.answers[1]} →`), el("text", { x: width / 2, y: height - 8, "text-anchor": "middle" }, t("bar.person")));
    } else {
      svg.append(el("text", { x: 2, y: height - 8 }, t("bar.person")));
    }
    const names = two ? d.answers : [t("scores.right"), t("scores.wrong")];
    const legend = el("div", { class: "keys" }, ...(two ? ["first", "second"] : ["right", "wrong"]).map((s, i) => el("span", { class: "key" }, el("i", { class: `${s}-ground` }), names[i])));
    into("scores", el("h2", {}, t("scores.title")), el("p", { class: "lead" }, t(two ? "scores.lead" : "scores.lead.margin", { n: d.scores.length })), svg, legend);
  }

  function table(id, prefix, head, rows, lead) {
    const line = (cells, tag, mine) => el("tr", mine ? { class: "mine" } : {}, ...cells.map((cell) => el(tag, tag === "th" ? { scope: "col" } : {}, cell)));
    const body = el("table", {}, el("thead", {}, line(head.map((h) => t(`${prefix}.${h}`)), "th")), el("tbody", {}, ...rows.map(([cells, mine]) => line(cells, "td", mine))));
    into(id, el("h2", {}, t(`${prefix}.title`)), ...(lead ? [el("p", { class: "lead" }, lead)] : []), el("div", { class: "scroll" }, body));
  }

  function tables() {
    table("classes", "classes", ["name", "tested", "right", "wrong", "person", "bound"], d.classes.map((c) => [[c.name, c.tested, c.right, c.wrong, c.person, c.bound], false]));
    const rows = d.ladder.map((step) => {
      const bar = el("span", {}, el("span", { class: step.proven ? "fill" : "fill not", style: `width:${Math.max(2, Math.round(120 * step.share))}px` }), percent(step.share));
      return [[`≤ ${step.error}`, bar, `${step.wrong} / ${step.answered}`, t(step.proven ? "ladder.yes" : "ladder.no", { bound: step.bound })], step.asked];
    });
    table("ladder", "ladder", ["error", "share", "seen", "state"], rows, t("ladder.lead", { confidence: d.confidence }));
  }

  share();
  light();
  look();
  scores();
  tables();
})();
