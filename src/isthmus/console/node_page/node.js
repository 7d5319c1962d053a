"use strict";
// The owner's page: it asks its own machine for the view every few seconds, and builds it from text only.
(async () => {
  const EVERY_MS = 3000;
  const DAY_S = 86400;
  const HOUR_S = 3600;
  const PPM = 1000000;
  const token = location.hash.slice(1);
  const texts = await (await fetch("/texts.json")).json();
  const t = (key, values = {}) => texts[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
  const language = document.documentElement.lang;
  const number = new Intl.NumberFormat(language);
  const moment = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" });
  const day = new Intl.DateTimeFormat(language, { dateStyle: "medium" });
  const place = (id) => document.getElementById(id);
  let shown = "";
  let paused = false;

  function made(kind, text, css) {
    const found = document.createElement(kind);
    if (text !== undefined) found.textContent = text;
    if (css) found.className = css;
    return found;
  }

  function size(bytes) {
    if (bytes < 1000) return `${number.format(bytes)} B`;
    const big = bytes >= 1000000;
    return `${number.format(Math.round(bytes / (big ? 10000 : 10)) / 100)} ${big ? "MB" : "kB"}`;
  }

  function table(heads, rows) {
    const found = made("table");
    const head = found.createTHead().insertRow();
    for (const [text, css] of heads) {
      const cell = made("th", text, css);
      cell.scope = "col";
      head.append(cell);
    }
    const body = found.createTBody();
    for (const cells of rows) {
      const row = body.insertRow();
      for (const [content, css] of cells) {
        const cell = row.insertCell();
        if (css) cell.className = css;
        cell.append(content);
      }
    }
    const scroll = made("div", undefined, "scroll");
    scroll.tabIndex = 0;
    scroll.append(found);
    return scroll;
  }

  function section(id, title, about, content) {
    const before = place(id).querySelector(".scroll");
    const top = before ? before.scrollTop : 0;
    place(id).replaceChildren(made("h2", title), made("p", about), ...content);
    const now = place(id).querySelector(".scroll");
    if (now) {
      now.setAttribute("aria-label", title);
      now.scrollTop = top;
    }
  }

  function numbers(view) {
    const count = (state) => view.asked.filter((one) => one.state === state).length;
    const cells = [
      [number.format(view.messages), "number.messages", ""],
      [size(view.bytes_left), "number.bytes", ""],
      [number.format(view.images_left), "number.records", view.images_left ? "stop" : "good"],
      [number.format(count("answered")), "number.answered", ""],
      [number.format(count("refused")), "number.refused", ""],
    ];
    place("numbers").replaceChildren(
      ...cells.map(([value, key, css]) => {
        const cell = made("div", undefined, `number ${css}`);
        cell.append(made("b", value), made("span", t(key)));
        return cell;
      }),
    );
  }

  function asked(view) {
    const heads = ["statistic", "state", "run", "parties", "why"].map((key) => [t(`asked.${key}`)]);
    const rows = view.asked.map((one) => {
      const why = made("span");
      if (one.clause) why.append(made("span", t("asked.clause", { clause: one.clause }), "clause"), `: ${one.message}`);
      const others = one.parties.filter((party) => party !== view.party).join(", ") || "–";
      return [[one.statistic], [made("span", t(`asked.${one.state}`), `tag ${one.state}`)], [`${one.run} · ${one.round}`, "mono"], [others], [why]];
    });
    section("asked", t("asked.title"), t(rows.length ? "asked.about" : "asked.none"), rows.length ? [table(heads, rows)] : []);
  }

  function left(view) {
    const right = new Set(["numbers", "bytes"]);
    const names = ["line", "at", "kind", "statistic", "numbers", "bytes", "sha256"];
    const heads = names.map((key) => [t(`left.${key}`), right.has(key) ? "right" : ""]);
    const rows = view.left.map((one) => [
      [number.format(one.seq)],
      [moment.format(one.at_ms)],
      [texts[`kind.${one.kind}`] || t("kind.other", { kind: one.kind })],
      [one.statistic],
      [one.numbers ? number.format(one.numbers) : "", "right"],
      [number.format(one.bytes), "right"],
      [one.sha256.slice(0, 16), "mono"],
    ]);
    const about = t("left.about", { count: number.format(view.messages), shown: number.format(rows.length) });
    section("left", t("left.title"), rows.length ? about : t("left.none"), rows.length ? [table(heads, rows)] : []);
  }

  function meter(text, share) {
    const found = made("div", text, "meter");
    const bar = made("div", undefined, "bar");
    const inner = made("span");
    inner.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
    bar.append(inner);
    found.append(bar);
    return found;
  }

  function agreed(view, one) {
    const found = made("div", undefined, one.present && one.state === "FINALIZED" && one.expires_at_s > view.now_s ? "agreed" : "agreed past");
    const words = made("div");
    const participants = one.participants.join(", ");
    words.append(made("p", t("agreements.purposes", { purposes: one.purposes.join(", ") })));
    words.append(made("p", t(`agreements.${one.visibility}`, { least: one.least_participants, participants })));
    words.append(made("p", t("agreements.operations", { operations: one.operations.join(", ") }), "soft"));
    if (one.state !== "FINALIZED") words.append(made("p", texts[`agreements.${one.state}`] || t("agreements.other", { state: one.state }), "clause"));
    if (!one.present) words.append(made("p", t("agreements.past"), "soft"));
    const meters = made("div");
    const seconds = one.expires_at_s - view.now_s;
    const when = day.format(one.expires_at_s * 1000);
    const soon = seconds < 2 * DAY_S;
    const count = number.format(Math.floor(seconds / (soon ? HOUR_S : DAY_S)));
    const time = seconds > 0 ? t(soon ? "agreements.hours" : "agreements.days", { count, when }) : t("agreements.expired", { when });
    meters.append(meter(time, seconds / (one.expires_at_s - one.issued_at_s)));
    const runs = Math.max(0, one.runs_max - one.runs_used);
    meters.append(meter(t("agreements.runs", { left: number.format(runs), all: number.format(one.runs_max) }), runs / one.runs_max));
    found.append(words, meters);
    return found;
  }

  function agreements(view) {
    const content = view.agreements.map((one) => agreed(view, one));
    for (const one of view.budgets) {
      const rest = Math.max(0, one.allowed_ppm - one.spent_ppm);
      const words = { left: number.format(rest / PPM), all: number.format(one.allowed_ppm / PPM) };
      content.push(meter(t("agreements.budget", words), rest / one.allowed_ppm));
    }
    section("agreements", t("agreements.title"), t(content.length ? "agreements.about" : "agreements.none"), content);
  }

  function top(view) {
    document.title = `${view.name} · Isthmus`;
    place("where").textContent = view.party;
    place("title").textContent = t("title", { name: view.name });
    paused = view.paused_since_s !== null;
    const state = place("state");
    state.className = paused ? "paused" : "soft";
    if (paused) state.textContent = t("state.paused", { since: moment.format(view.paused_since_s * 1000) });
    else if (!view.running) state.textContent = t("state.stopped");
    else state.textContent = view.exchange ? t("state.running", { exchange: view.exchange }) : t("state.waiting");
    const button = place("switch");
    button.textContent = t(paused ? "button.resume" : "button.pause");
    button.className = paused ? "go" : "";
    button.hidden = false;
    const lines = [t("about.key", { key: view.public_key }), t("about.asset", { asset: view.asset }), t("about.check")];
    place("about").replaceChildren(...lines.map((line) => made("p", line)));
  }

  function problem(text) {
    place("problem").textContent = text;
    place("problem").hidden = !text;
  }

  function show(view) {
    problem(view.log_problem ? t("problem.log", { message: view.log_problem }) : "");
    const raw = JSON.stringify({ ...view, now_s: Math.floor(view.now_s / 60) });
    if (raw === shown) return;
    shown = raw;
    top(view);
    numbers(view);
    asked(view);
    left(view);
    agreements(view);
  }

  async function call(path, method) {
    let answer;
    try {
      answer = await fetch(path, { method, headers: { "x-isthmus-token": token } });
    } catch {
      problem(t("problem.away"));
      return null;
    }
    const found = await answer.json();
    if (answer.ok) return found;
    problem(`${found.error.message}; ${found.error.next}`);
    return null;
  }

  async function look() {
    const found = document.hidden ? null : await call("/view.json", "GET");
    if (found) show(found);
  }

  place("private").textContent = t("private");
  place("switch").addEventListener("click", async () => {
    place("switch").disabled = true;
    const found = await call(paused ? "/resume" : "/pause", "POST");
    place("switch").disabled = false;
    if (found) {
      show(found);
      place("say").textContent = t(paused ? "said.paused" : "said.resumed");
    }
  });
  document.addEventListener("visibilitychange", look);
  await look();
  setInterval(look, EVERY_MS);
})();
