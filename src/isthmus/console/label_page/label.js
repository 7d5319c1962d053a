/* The labelling desk. Names of files become text nodes only. Pictures are fetched with the token and shown from memory. */
"use strict";

(async () => {
  const KEPT_PICTURES = 40, FLASH_MS = 160, RECENT_SHOWN = 12;
  const byId = (id) => document.getElementById(id);
  function token() {
    const given = decodeURIComponent(location.hash.slice(1));
    if (given) {
      sessionStorage.setItem("token", given);
      history.replaceState(null, "", "/");
    }
    return sessionStorage.getItem("token") || "";
  }
  const secret = token();
  const texts = await (await fetch("/texts.json")).json();
  const t = (key, values = {}) => texts[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
  const percent = (share) => `${Math.round(share * 100)}\u202f%`;
  const ms = (value) => (value < 10 ? value.toFixed(1) : String(Math.round(value)));
  const pictures = new Map();
  let state = null, unsure = false, busy = false, looking = -1, shownId = "";

  function el(tag, kind, ...children) {
    const node = document.createElement(tag);
    if (kind) node.className = kind;
    node.append(...children);
    return node;
  }

  async function asked(path, body) {
    let answer;
    try {
      const headers = { "x-isthmus-token": secret };
      answer = await fetch(path, body === undefined ? { headers } : { method: "POST", headers, body: JSON.stringify(body) });
    } catch {
      throw new Error(t("problem.gone"));
    }
    if (!answer.ok) {
      const { error } = await answer.json();
      throw new Error(t("problem.line", { message: error.message, next: error.next || "" }));
    }
    return answer;
  }

  async function pictureOf(id) {
    if (!pictures.has(id)) {
      const loading = asked(`/picture/${id}`).then(async (answer) => URL.createObjectURL(await answer.blob()));
      loading.catch(() => pictures.delete(id));
      pictures.set(id, loading);
      if (pictures.size > KEPT_PICTURES) {
        const [oldest, old] = pictures.entries().next().value;
        pictures.delete(oldest);
        old.then((url) => URL.revokeObjectURL(url), () => {});
      }
    }
    return pictures.get(id);
  }

  function problem(message) {
    byId("problem").hidden = !message;
    byId("problem").textContent = message || "";
  }

  function zoom(event) {
    const frame = byId("frame"), near = frame.classList.toggle("near"), box = frame.getBoundingClientRect();
    if (near) byId("picture").style.transformOrigin = event && event.clientX ? `${event.clientX - box.left}px ${event.clientY - box.top}px` : "center";
  }

  const now = () => (looking >= 0 ? state.recent[looking] : state.asked);
  const verdictWord = (said) => t(`verdict.${said.verdict}${said.sure ? "" : ".unsure"}`);
  const mark = (verdict) => {
    const node = el("span", `mark ${verdict}`, verdict === "good" ? "✓" : "✕");
    node.setAttribute("aria-hidden", "true");
    return node;
  };

  async function showPicture() {
    const picture = now(), image = byId("picture"), frame = image.parentElement;
    frame.classList.toggle("again", looking >= 0);
    byId("name").textContent = picture ? picture.name : "";
    image.hidden = !picture;
    if (!picture || shownId === picture.id) return;
    shownId = picture.id;
    frame.classList.remove("near");
    frame.classList.add("waits");
    try {
      const url = await pictureOf(picture.id);
      if (shownId !== picture.id) return;
      image.src = url;
      image.alt = t("alt", { name: picture.name });
      await image.decode().catch(() => {});
    } catch (error) {
      image.removeAttribute("src");
      problem(t("problem.picture", { message: error.message }));
    }
    frame.classList.remove("waits");
  }

  function question() {
    const picture = now();
    let [title, why] = ["question", ""];
    if (!picture) [title, why] = ["question.done", t("why.done")];
    else if (unsure) [title, why] = ["question.unsure", t("why.unsure")];
    else if (looking >= 0) [title, why] = ["question.again", t("why.again", { verdict: verdictWord(picture) })];
    else why = t(picture.put_off ? "why.put_off" : `why.${picture.how}`);
    byId("question").textContent = t(title);
    byId("why").textContent = why;
  }

  function keys() {
    const open = Boolean(now()), soft = unsure ? ".unsure" : "";
    const focused = document.activeElement && document.activeElement.dataset.key;
    const made = [
      ["g", "G", t(`key.good${soft}`), "good", open, () => answer("good")],
      ["d", "D", t(`key.defect${soft}`), "defect", open, () => answer("defect")],
      ["u", "U", t("key.unsure"), unsure ? "on" : "", open, toggleUnsure],
      ["arrowleft", "←", t("key.back"), "minor", canLookBack(), back],
      ["z", "Z", t("key.undo"), "minor", state.answered_here + state.put_off > 0, undo],
      ["arrowright", "→", t(looking >= 0 ? "key.forward" : "key.later"), "minor", open, forward],
    ].map(([key, cap, text, kind, enabled, act]) => {
      const label = el("kbd", "", cap), button = el("button", `key ${kind}`, label, text);
      label.setAttribute("aria-hidden", "true");
      button.type = "button";
      button.disabled = !enabled;
      button.dataset.key = key;
      button.setAttribute("aria-keyshortcuts", key.startsWith("arrow") ? (key === "arrowleft" ? "ArrowLeft" : "ArrowRight") : cap);
      if (key === "u") button.setAttribute("aria-pressed", String(unsure));
      button.addEventListener("click", act);
      return button;
    });
    byId("keys").replaceChildren(...made);
    const again = made.find((button) => button.dataset.key === focused);
    if (again && !again.disabled) again.focus();
  }

  function numbers() {
    const shown = [["labelled", state.labelled, ""], ["good", state.good, "good"], ["defect", state.defect, "defect"], ["left", state.left, ""]];
    byId("numbers").replaceChildren(...shown.map(([name, value, kind]) => el("div", `number ${kind}`, el("b", "", String(value)), el("span", "", t(`number.${name}`)))));
  }

  function last() {
    const said = state.recent[state.recent.length - 1], parts = [el("h3", "", t("last.title"))];
    if (!said) parts.push(el("p", "soft", t("last.none")));
    else {
      parts.push(el("p", "line", mark(said.verdict), el("span", "file", `${verdictWord(said)} · ${said.name}`)));
      const chance = said.defect_chance;
      const agreed = chance !== null && (chance > 0.5) === (said.verdict === "defect");
      parts.push(el("p", "soft", chance === null ? t("last.unknown") : t(agreed ? "last.agreed" : "last.surprised", { chance: percent(chance) })));
      if (state.took.write_ms) parts.push(el("p", "soft", t("last.took", { learn: ms(state.took.learn_ms), write: ms(state.took.write_ms) })));
    }
    byId("last").replaceChildren(...parts);
  }

  function curve() {
    const points = state.curve, parts = [el("h3", "", t("curve.title"))];
    if (!points.length) parts.push(el("p", "soft", t("curve.none")));
    else {
      const now = points[points.length - 1];
      const values = { accuracy: percent(now.accuracy), lower: percent(now.lower), commoner: percent(now.commoner), measured: now.measured, confidence: percent(0.95), first: points[0].labels, last: now.labels };
      parts.push(el("p", "big", values.accuracy), drawnCurve(points, { labels: t("curve.labels"), title: t("curve.alt", values) }));
      parts.push(el("p", "", t("curve.now", values)), el("p", "soft", t(state.grouped ? "curve.note" : "curve.note.single")));
    }
    byId("curve").replaceChildren(...parts);
  }

  function recent() {
    const strip = el("div", "strip");
    state.recent.map((said, place) => [said, place]).slice(-RECENT_SHOWN).reverse().forEach(([said, place]) => {
      const image = el("img", ""), button = el("button", `thumb ${said.verdict}${said.sure ? "" : " unsure"}${place === looking ? " on" : ""}`, image, mark(said.verdict));
      image.alt = t("alt.recent", { name: said.name, verdict: verdictWord(said) });
      button.type = "button";
      button.addEventListener("click", () => { looking = place; unsure = false; draw(); });
      pictureOf(said.id).then((url) => { image.src = url; }, () => {});
      strip.append(button);
    });
    byId("recent").replaceChildren(el("h3", "", t("recent.title")), state.recent.length ? strip : el("p", "soft", t("recent.none")));
  }

  function about() {
    const lines = ["put_off", "unread", "left_out", "kept_back"].filter((name) => state[name]).map((name) => t(`about.${name}`, { n: state[name] }));
    byId("about").replaceChildren(...[...lines, t("about.private")].map((line) => el("p", "", line)));
  }

  function draw() {
    if (!state) return;
    question();
    showPicture();
    keys();
    numbers();
    last();
    curve();
    recent();
    about();
  }

  function flash(verdict) {
    const frame = byId("picture").parentElement;
    frame.classList.add(verdict);
    setTimeout(() => frame.classList.remove(verdict), FLASH_MS);
  }

  async function sent(path, body, said) {
    if (busy) return;
    busy = true;
    try {
      state = await (await asked(path, body)).json();
      unsure = false;
      looking = -1;
      problem("");
      byId("say").textContent = said(state);
    } catch (error) {
      problem(error.message);
    }
    busy = false;
    draw();
  }

  function answer(verdict) {
    const picture = now();
    if (!picture || busy) return;
    flash(verdict);
    const said = { verdict, sure: !unsure }, id = picture.id, name = picture.name;
    sent("/answer", { id, ...said }, (after) => {
      const values = { name, verdict: verdictWord(said), next: after.asked ? after.asked.name : "" };
      return t(after.asked ? "say.saved" : "say.saved.last", values);
    });
  }

  function undo() {
    const before = state.recent[state.recent.length - 1];
    sent("/undo", {}, (after) => t("say.undone", { name: after.asked ? after.asked.name : before ? before.name : "" }));
  }

  const canLookBack = () => state.recent.length > 0 && looking !== 0;
  function back() {
    if (!canLookBack() || busy) return;
    looking = looking < 0 ? state.recent.length - 1 : looking - 1;
    unsure = false;
    draw();
  }

  function forward() {
    if (busy) return;
    if (looking >= 0) {
      looking = looking + 1 < state.recent.length ? looking + 1 : -1;
      unsure = false;
      draw();
    } else if (state.asked) {
      sent("/answer", { id: state.asked.id, verdict: "later", sure: true }, (after) => t("say.later", { next: after.asked ? after.asked.name : "" }));
    }
  }

  function toggleUnsure() {
    if (!now() || busy) return;
    unsure = !unsure;
    draw();
  }

  const ACTS = { g: () => answer("good"), d: () => answer("defect"), u: toggleUnsure, z: undo, arrowleft: back, arrowright: forward, f: zoom };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || !state) return;
    const key = event.key.toLowerCase();
    if (key === "escape") {
      unsure = false;
      looking = -1;
      draw();
    } else if (ACTS[key]) {
      event.preventDefault();
      ACTS[key]();
    }
  });

  byId("private").textContent = t("private");
  byId("zoom").textContent = t("zoom");
  byId("frame").addEventListener("click", zoom);
  try {
    state = await (await asked("/state.json")).json();
    document.title = t("title", { folder: state.folder });
    byId("title").textContent = document.title;
    byId("where").textContent = state.folder;
    draw();
  } catch (error) {
    problem(error.message);
  }
})();
