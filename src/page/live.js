// Keeps the front page fresh: values by server-sent events, charts by fetching them again. Draws nothing by itself.
"use strict";
(() => {
  const HIDDEN_MS = 30000, SHOW_LOSS_MS = 2500, PAUSE_MS_MAX = 30000, CARDS_MS_MIN = 10000;
  const units = document.documentElement.dataset.units || "metric";
  const indicator = document.getElementById("live");
  const born = new WeakMap();
  let source = null, pause = 1000, again = 0, loss = 0, hiding = 0;
  let cardsAt = 0, chartsAt = Date.now();

  const setText = (element, text) => { if (element && element.textContent !== text) element.textContent = text; };
  const show = (element, isShown) => { if (element && element.hidden === isShown) element.hidden = !isShown; };

  function ago(seconds) {
    if (seconds < 0) return "just now";
    if (seconds < 90) return `${seconds} s ago`;
    if (seconds < 5400) return `${Math.floor(seconds / 60)} min ago`;
    if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ago`;
    return `${Math.floor(seconds / 86400)} d ago`;
  }

  const ages = () => document.querySelectorAll("#cards .age");
  const setAge = (element, age_s) => { born.set(element, Date.now() - age_s * 1000); setText(element, ago(age_s)); };
  const adoptAges = () => ages().forEach((element) => setAge(element, Number(element.dataset.age)));

  function tellConnection(isLive) {
    const say = () => {
      indicator.hidden = false;
      indicator.classList.toggle("lost", !isLive);
      setText(indicator, isLive ? "live" : "reconnecting\u2026");
    };
    if (isLive) { clearTimeout(loss); loss = 0; say(); }
    // A stream that ends and comes back at once is no news.
    else if (!loss) loss = setTimeout(say, SHOW_LOSS_MS);
  }

  function tellValue(value, at_s) {
    const reading = document.getElementById(value.id);
    const card = reading.closest(".card"), of = (name) => card.querySelector(name);
    const fill = (name, inner, text) => { setText(of(inner), text || ""); show(of(name), Boolean(text)); };
    setText(reading.querySelector(".number"), value.text);
    setText(reading.querySelector(".unit"), value.unit);
    fill(".note", ".note", value.note);
    fill(".today", ".today span", value.today);
    show(of(".doubtful"), value.doubtful);
    show(of(".stale"), value.stale);
    card.classList.toggle("old", value.stale);
    setAge(of(".age"), value.age_s);
    of(".age").dateTime = new Date((at_s - value.age_s) * 1000).toISOString();
    if (!of(".compass")) return;
    of(".needle").setAttribute("transform", `rotate(${Number(value.text) || 0} 20 20)`);
    of(".compass").setAttribute("aria-label", `Wind from ${value.note || `${value.text} degrees`}`);
  }

  function tellVerdict(status, issues) {
    const verdict = document.getElementById("verdict");
    if (verdict.dataset.status === status && Number(verdict.dataset.issues) === issues) return;
    Object.assign(verdict.dataset, { status, issues });
    const word = ["ok", "failing"].includes(status) ? status : "degraded";
    verdict.className = `verdict ${word}`;
    const words = word === "ok" ? "The hub is well" : `The hub is ${word}: ${issues} issue${issues === 1 ? "" : "s"}`;
    setText(document.getElementById("verdict-words"), words);
    // Which issues they were is not known any more.
    document.getElementById("verdict-issues")?.remove();
  }

  function isSameShape(live) {
    const sources = [...document.querySelectorAll("#cards [data-source]")].map((section) => section.dataset.source);
    return sources.length === live.sources.length && sources.every((name, at) => name === live.sources[at])
      && document.querySelectorAll("#cards .reading").length === live.values.length
      && live.values.every((value) => document.getElementById(value.id));
  }

  function tell(live) {
    const asof = document.getElementById("asof");
    setText(asof, live.at);
    asof.dateTime = new Date(live.at_s * 1000).toISOString();
    tellVerdict(live.status, live.issues);
    if (!isSameShape(live)) return void reloadCards();
    live.values.forEach((value) => tellValue(value, live.at_s));
    document.querySelectorAll("#cards .source").forEach((section) => {
      show(section.querySelector(".whole"), Boolean(section.querySelector(".card.old")));
    });
  }

  function connect() {
    clearTimeout(again);
    if (source) return;
    source = new EventSource(`/api/v1/live?units=${encodeURIComponent(units)}`);
    source.onopen = () => { pause = 1000; tellConnection(true); };
    source.onmessage = (event) => { try { tell(JSON.parse(event.data)); } catch { /* The next one may be whole. */ } };
    source.onerror = () => {
      tellConnection(false);
      if (source?.readyState !== EventSource.CLOSED) return;
      disconnect();
      again = setTimeout(connect, pause * (0.75 + Math.random() / 2));
      pause = Math.min(pause * 2, PAUSE_MS_MAX);
    };
  }

  function disconnect() { clearTimeout(again); source?.close(); source = null; }

  async function fetched(path, id) {
    try {
      const answer = await fetch(path + location.search, { cache: "no-store" });
      if (!answer.ok) return null;
      return new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(id);
    } catch { return null; }
  }

  async function reloadCards() {
    if (Date.now() - cardsAt < CARDS_MS_MIN) return;
    cardsAt = Date.now();
    const cards = await fetched("/cards", "cards");
    if (cards) document.getElementById("cards").replaceWith(cards);
    adoptAges();
    chartsAt = 0;
  }

  async function reloadCharts() {
    chartsAt = Date.now();
    const body = await fetched("/charts", "charts-body");
    if (!body) return;
    // What is open stays open, what has the focus keeps it.
    const old = document.getElementById("charts-body"), details = body.querySelector("details");
    const hadFocus = old.contains(document.activeElement), { scrollX, scrollY } = window;
    if (details) details.open = Boolean(old.querySelector("details[open]"));
    old.replaceWith(body);
    if (hadFocus) details?.querySelector("summary").focus({ preventScroll: true });
    window.scrollTo(scrollX, scrollY);
  }

  function tick() {
    if (document.hidden) return;
    const now = Date.now();
    ages().forEach((element) => setText(element, ago(Math.floor((now - born.get(element)) / 1000))));
    if (now - chartsAt >= Number(document.getElementById("charts").dataset.refresh) * 1000) reloadCharts();
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(disconnect, HIDDEN_MS); else connect();
  });
  window.addEventListener("pagehide", disconnect);
  window.addEventListener("pageshow", (event) => { if (event.persisted) connect(); });
  adoptAges();
  connect();
  setInterval(tick, 1000);
})();
