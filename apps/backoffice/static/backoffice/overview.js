// The dealing desk's live figures: asks for them every second and puts them into the page's tables.
// Rows are kept by key and changed in place, so that focus, open details and scroll positions stay where they are.

const POLL_MS = 1000;
const LOST_AFTER_MS = 3000;

/** @typedef {Record<string, any>} Row */

const page = document.body.dataset;
const lastBids = new Map();
/** Decimals of each symbol's prices. */
const priceDigits = new Map();
let lastAnswer = 0;

// ------------------------------------------------------------------------------------------------------------- words

/** A decimal string with a fixed number of decimals and thin thousands; digits are never turned into a float. */
function amount(text, digits) {
  if (text === null || text === undefined) return "–";
  const [, sign, whole, rest = ""] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(String(text)) ?? [null, "", String(text)];
  const shown = digits === undefined ? rest.replace(/0+$/, "") : rest.padEnd(digits, "0").slice(0, Math.max(digits, rest.replace(/0+$/, "").length));
  const spaced = whole.replace(/\B(?=(\d{3})+(?!\d))/g, "\u2009");
  return (sign ? "−" : "") + spaced + (shown ? "." + shown : "");
}

const isZero = (text) => /^-?0*(\.0*)?$/.test(String(text));
const isNegative = (text) => String(text).startsWith("-") && !isZero(text);
const signClass = (text) => (text === null || isZero(text) ? "dim" : isNegative(text) ? "minus" : "plus");
const signed = (text, digits) => (text === null ? "–" : (isZero(text) || isNegative(text) ? "" : "+") + amount(text, digits));
const clockTime = (iso) => (iso ? iso.slice(11, 19) : "–");

function age(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 0) return "0 ms";
  return ms < 1000 ? `${ms} ms` : ms < 100000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 60000)} min`;
}

function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)];
  return seconds < 60 ? `${seconds}s` : hours ? `${hours}h ${String(minutes).padStart(2, "0")}m` : `${minutes}m`;
}

// ------------------------------------------------------------------------------------------------------------ elements

/** An element with classes and children; text children are text, never markup. */
function make(tag, classes = "", ...children) {
  const element = document.createElement(tag);
  if (classes) element.className = classes;
  element.append(...children.filter((child) => child !== null));
  return element;
}

const cell = (text, classes = "") => make("td", classes, text);

/** Makes the table's body show `rows`: one `tr` per key, redrawn only when its figures changed. */
function fill(name, rows, keyOf, draw) {
  const body = document.querySelector(`[data-table="${name}"]`);
  const kept = new Map([...body.children].filter((tr) => tr.dataset.key).map((tr) => [tr.dataset.key, tr]));
  const wanted = [];
  for (const row of rows) {
    const key = String(keyOf(row));
    const tr = kept.get(key) ?? make("tr");
    const figures = JSON.stringify(row);
    if (tr.dataset.key !== key || tr.figures !== figures) {
      tr.dataset.key = key;
      tr.figures = figures;
      draw(tr, row);
    }
    wanted.push(tr);
    if (tr.detail?.isConnected) wanted.push(tr.detail);
  }
  if (!rows.length) {
    const columns = body.parentElement.querySelectorAll("thead th").length;
    const empty = make("tr", "", cell(body.dataset.empty, "empty"));
    empty.firstChild.colSpan = columns;
    wanted.push(empty);
  }
  if (wanted.length !== body.children.length || wanted.some((tr, i) => body.children[i] !== tr)) body.replaceChildren(...wanted);
}

// -------------------------------------------------------------------------------------------------------------- tables

function drawQuote(tr, row) {
  const isStale = row.bid === null || row.age_ms > row.age_max_ms;
  tr.className = isStale ? "stale" : "";
  if (row.bid === null) {
    tr.replaceChildren(cell(row.symbol, "strong"), cell("no quote", "n bad"), cell("–", "n"), cell("–", "n"), cell("–", "n"), cell("", "wide"));
    return;
  }
  const before = lastBids.get(row.symbol) ?? {};
  const tops = row.tops.map((top) => make("span", top.tradable ? "top" : "top away", `${top.lp} `, make("b", "", `${amount(top.bid, row.digits)} / ${amount(top.ask, row.digits)}`)));
  tr.replaceChildren(
    cell(row.symbol, "strong"),
    make("td", "n", price(row.bid, before.bid, before.bidMove, row.digits)),
    make("td", "n", price(row.ask, before.ask, before.askMove, row.digits)),
    cell(amount(row.spread_points), isNegative(row.spread_points) ? "n bad" : "n"),
    cell(age(row.age_ms), isStale ? "n warn" : "n dim"),
    make("td", "wide", ...tops),
  );
  lastBids.set(row.symbol, {
    bid: row.bid, ask: row.ask,
    bidMove: move(row.bid, before.bid, before.bidMove), askMove: move(row.ask, before.ask, before.askMove),
  });
}

function move(now, before, movedBefore) {
  if (before === undefined || now === before) return movedBefore ?? "";
  return Number(now) > Number(before) ? "up" : "down";
}

function price(now, before, movedBefore, digits) {
  const moved = before !== undefined && now !== before;
  return make("span", `price ${move(now, before, movedBefore)}${moved ? " flash" : ""}`, amount(now, digits));
}

function drawPosition(tr, row) {
  tr.replaceChildren(
    cell(String(row.id), "strong"), cell(`${row.account}`), cell(row.symbol), cell(row.side, row.side), cell(amount(row.volume, 2), "n"),
    cell(amount(row.open_price, priceDigits.get(row.symbol)), "n wide"), make("td", "wide", split(row)), cell(row.lp || "–", "wide"),
    make("td", `n ${signClass(row.floating)}`, `${signed(row.floating, row.digits)} `, make("span", "dim", row.currency)),
  );
}

function split(row) {
  const meter = make("meter");
  meter.max = Number(row.volume) || 1;
  meter.value = Number(row.volume_a);
  meter.setAttribute("aria-label", "Part at the provider");
  return make("span", "split", make("span", "buy", amount(row.volume_a, 2)), meter, make("span", "sell", amount(row.volume_b, 2)));
}

function drawDecision(tr, row) {
  const isOpen = Boolean(tr.detail?.isConnected);
  const button = make("button", "why", isOpen ? "−" : "+");
  button.type = "button";
  button.setAttribute("aria-expanded", String(isOpen));
  button.setAttribute("aria-label", `Why order ${row.order_id} went to ${row.book}`);
  button.addEventListener("click", () => toggle(tr, row, button));
  tr.replaceChildren(
    make("td", "", button), cell(String(row.order_id), "strong"), cell(clockTime(row.at), "wide dim"), cell(String(row.account), "wide"),
    cell(row.symbol), cell(row.side ?? "–", row.side ?? ""), cell(amount(row.volume, 2), "n"), make("td", "", make("span", `book ${row.book}`, row.book)),
    cell(row.rule_name, "wide"), cell(row.lp || "–", "wide"), cell((row.status ?? "–").replaceAll("_", " "), row.status === "rejected" ? "bad" : ""),
  );
}

function toggle(tr, row, button) {
  const isOpen = Boolean(tr.detail?.isConnected);
  if (isOpen) tr.detail.remove();
  else {
    tr.detail = make("tr", "", explain(row));
    tr.after(tr.detail);
  }
  button.textContent = isOpen ? "+" : "−";
  button.setAttribute("aria-expanded", String(!isOpen));
}

/** Every rule that was looked at, each condition with what it wanted and what it saw, and the providers considered. */
function explain(row) {
  const why = row.decision;
  const detail = make("td", "detail");
  detail.colSpan = 11;
  detail.append(
    make("p", "", make("span", "strong", `Rule “${row.rule_name}” `), `of policy ${why.policy_version}, configuration ${why.config_version}: wanted ${why.wanted}, became ${why.book}; `, `${amount(why.volume_a, 2)} lots to the market, ${amount(why.volume_b, 2)} with the house.`),
    ...why.reasons.map((reason) => make("p", "dim", reason)),
  );
  const conditions = why.rules.flatMap((rule) =>
    rule.conditions.length
      ? rule.conditions.map((c) => [rule.name, `${c.field} ${c.operator} ${c.expected.join(", ")}`, c.actual, c.passed])
      : [[rule.name, "no conditions", "–", true]],
  );
  detail.append(listing("Conditions", ["Rule", "Condition", "Actual", "Holds"], conditions.map(([rule, wanted, actual, holds]) => [rule, wanted, actual, make("span", holds ? "good" : "bad", holds ? "✓ yes" : "✗ no")])));
  if (why.candidates.length) {
    detail.append(listing("Providers", ["LP", "Price", "Size", "Age", "Eligible", "Reason"], why.candidates.map((c) => [
      c.lp, amount(c.price, priceDigits.get(row.symbol)), amount(c.size), c.age_us === null ? "–" : age(Math.round(c.age_us / 1000)),
      make("span", c.eligible ? "good" : "bad", c.eligible ? "✓ yes" : "✗ no"), c.reason,
    ])));
  }
  return detail;
}

function listing(caption, heads, rows) {
  const headings = heads.map((head) => {
    const th = make("th", "", head);
    th.scope = "col";
    return th;
  });
  return make("div", "scroll", make("table", "", make("caption", "", caption), make("thead", "", make("tr", "", ...headings)), make("tbody", "", ...rows.map((row) => make("tr", "", ...row.map((value) => cell(value)))))));
}

function drawDeal(tr, row) {
  tr.replaceChildren(
    cell(String(row.id), "strong"), cell(clockTime(row.at), "wide dim"), cell(String(row.account), "wide"), cell(row.symbol),
    make("td", row.side, `${row.side} `, make("span", "dim", row.entry)), cell(amount(row.volume, 2), "n"), cell(amount(row.price, priceDigits.get(row.symbol)), "n"),
    cell(signed(row.profit, 2), `n ${signClass(row.profit)}`), cell(amount(row.commission, 2), "n wide dim"), make("td", "", make("span", `book ${row.book}`, row.book)),
    cell([row.lp, row.exec_id].filter(Boolean).join(" ") || "–", "wide dim"),
  );
}

/** The severity is said in words too: colour alone tells nobody anything. */
function drawAlert(tr, row) {
  const state = { critical: "off", warning: "wait", info: "on" }[row.severity] ?? "off";
  tr.replaceChildren(
    make("td", "wrap", make("span", `light ${state}`, row.severity), " ", make("span", "strong", row.key.replaceAll("_", " ").replace(":", " ")), make("div", "dim alert", row.text)),
    cell(clockTime(row.raised_at), "n dim"), cell(String(row.count), "n dim"),
  );
}

const light = (isOn, words) => make("span", `light ${isOn ? "on" : "off"}`, words);

function drawLp(tr, row) {
  const { received = "0", ...dropped } = row.counters;
  const chips = Object.entries(dropped).map(([reason, count]) => make("span", count === "0" ? "chip" : "chip hot", `${reason.replace(/^dropped[_:]/, "")} ${amount(count)}`));
  tr.replaceChildren(
    make("td", "strong", row.lp, row.enabled ? "" : " (off)"), make("td", "", light(row.price === "up", row.price)), make("td", "wrap", light(row.trade === "up", row.trade), row.breaker === "closed" ? null : make("div", "", light(false, `breaker ${row.breaker.replace("_", " ")}`))),
    cell(amount(received), "n"), make("td", "wrap", ...(chips.length ? chips : [make("span", "dim", "none")])),
  );
  tr.title = row.text;
}

function drawExposure(tr, row) {
  const lots = (text) => cell(signed(text, 2), `n ${signClass(text)}`);
  tr.replaceChildren(cell(row.symbol, "strong"), lots(row.clients), lots(row.house), lots(row.lp));
}

function drawSum(tr, row) {
  const isRight = isZero(row.sum);
  tr.replaceChildren(cell(row.currency, "strong"), cell(`${isRight ? "✓ " : "✗ "}${amount(row.sum, row.digits)}`, isRight ? "n good" : "n bad"));
}

function drawBalance(tr, row) {
  tr.replaceChildren(cell(row.account), cell(row.currency, "dim"), cell(amount(row.balance, row.digits), `n ${isNegative(row.balance) ? "minus" : ""}`));
}

function drawProcess(tr, row) {
  const isUp = row.state === "up" || row.state === "standby";
  const facts = Object.entries(row.detail).map(([name, value]) => `${name} ${value}`).join(", ");
  const state = make("span", `light ${isUp ? "on" : row.state === "starting" || row.state === "waiting" ? "wait" : "off"}`, row.state);
  tr.title = [facts, row.last_exit && `last exit: ${row.last_exit}`].filter(Boolean).join("; ");
  tr.replaceChildren(cell(row.name, "strong"), make("td", "", state), cell(row.pid === null ? "–" : String(row.pid), "n dim wide"), cell(row.restarts === null ? "–" : String(row.restarts), row.restarts ? "n warn" : "n dim"), cell(span(row.up_s), "n dim"));
}

function drawEngine(engine) {
  const perSecond = Number(engine.seconds) > 0 ? (Number(engine.commands) / Number(engine.seconds)).toFixed(1) : "–";
  const perBatch = engine.batches ? (Number(engine.commands) / engine.batches).toFixed(1) : "–";
  const facts = [
    ["State", engine.halted ? `halted: ${engine.halted}` : engine.epoch === undefined ? "never started" : "running"],
    ["Owner", engine.owner || "–"], ["Epoch", engine.epoch ?? "–"], ["Last batch", engine.seq ? `${engine.seq} at ${clockTime(engine.batch_at)}` : "–"],
    ["Commands per second", perSecond], ["Commands per batch", perBatch], ["Events told", engine.outbox_seq ?? "–"], ["Configuration", engine.config_version ?? "–"],
  ];
  document.getElementById("engine").replaceChildren(...facts.flatMap(([name, value]) => [make("dt", "", name), make("dd", name === "State" && engine.halted ? "bad" : "", String(value))]));
}

// --------------------------------------------------------------------------------------------------------------- tiles

function tile(id, classes, ...children) {
  document.getElementById(`tile-${id}`).replaceChildren(make("span", classes, ...children));
}

function drawTiles(figures) {
  const { processes, lps, quotes, positions, ledger_sums: sums } = figures;
  const up = processes.filter((p) => p.state === "up").length;
  tile("processes", up === processes.length && up ? "good" : "bad", `${up} / ${processes.length}`);
  const ready = lps.filter((lp) => lp.price === "up" && lp.trade === "up").length;
  tile("lps", ready === lps.length && ready ? "good" : "bad", `${ready} / ${lps.length} up`);
  const fresh = quotes.filter((q) => q.bid !== null && q.age_ms <= q.age_max_ms).length;
  tile("quotes", fresh === quotes.length ? "" : "warn", `${fresh} / ${quotes.length}`);
  tile("positions", "", String(figures.positions_open));
  const totals = new Map();
  for (const p of positions) if (p.floating !== null) totals.set(p.currency, (totals.get(p.currency) ?? 0) + Math.round(Number(p.floating) * 10 ** p.digits) / 10 ** p.digits);
  const parts = [...totals].map(([currency, total]) => make("span", total < 0 ? "minus" : "plus", `${signed(total.toFixed(2), 2)} `, make("small", "", `${currency} `)));
  tile("floating", "", ...(parts.length ? parts : ["flat"]));
  const wrong = sums.filter((s) => !isZero(s.sum)).map((s) => s.currency);
  const critical = figures.alerts.filter((alert) => alert.severity === "critical").length;
  tile("alerts", critical ? "bad" : figures.alerts.length ? "warn" : "good", critical ? `${critical} critical of ${figures.alerts.length}` : figures.alerts.length ? String(figures.alerts.length) : "none");
  tile("ledger", wrong.length ? "bad" : "good", wrong.length ? `off in ${wrong.join(", ")}` : sums.length ? "0.00 everywhere" : "empty");
}

// ---------------------------------------------------------------------------------------------------------------- poll

function show(figures) {
  document.getElementById("clock").textContent = figures.at.slice(0, 19).replace("T", " ") + " UTC";
  fill("processes", figures.processes, (row) => row.name, drawProcess);
  if (figures.config_version === null) return;
  for (const quote of figures.quotes) priceDigits.set(quote.symbol, quote.digits);
  fill("quotes", figures.quotes, (row) => row.symbol, drawQuote);
  fill("lps", figures.lps, (row) => row.lp, drawLp);
  fill("positions", figures.positions, (row) => row.id, drawPosition);
  fill("exposures", figures.exposures, (row) => row.symbol, drawExposure);
  fill("decisions", figures.decisions, (row) => row.order_id, drawDecision);
  fill("deals", figures.deals, (row) => row.id, drawDeal);
  fill("ledger", figures.ledger_sums, (row) => row.currency, drawSum);
  fill("alerts", figures.alerts, (row) => row.key, drawAlert);
  fill("house", figures.house, (row) => `${row.account}/${row.currency}`, drawBalance);
  document.getElementById("positions-note").textContent = figures.positions_open > figures.positions.length ? `newest ${figures.positions.length} of ${figures.positions_open}` : "";
  drawEngine(figures.engine);
  drawTiles(figures);
}

/** Says the state only when it changes: it is read out. */
function link(state, words) {
  const element = document.getElementById("link");
  if (element.dataset.state === state) return;
  element.dataset.state = state;
  element.textContent = words;
}

async function poll() {
  try {
    const answer = await fetch(page.source, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(5000) });
    if (answer.status === 401) {
      location.assign(page.login);
      return;
    }
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    show(await answer.json());
    lastAnswer = performance.now();
    link("live", "live");
  } catch (error) {
    console.warn("overview:", error);
    if (performance.now() - lastAnswer > LOST_AFTER_MS) link("lost", "figures are old");
  }
  setTimeout(poll, POLL_MS);
}

// --------------------------------------------------------------------------------------------------------------- theme

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  document.getElementById("theme").textContent = theme === "dark" ? "Light" : "Dark";
  localStorage.setItem("theme", theme);
}

setTheme(localStorage.getItem("theme") === "light" ? "light" : "dark");
document.getElementById("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
poll();
