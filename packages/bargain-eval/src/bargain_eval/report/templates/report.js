"use strict";

/* Builds everything from text nodes: no string from the data is ever read as markup. */
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/* Theme ------------------------------------------------------------------------------------- */

const themeButton = document.getElementById("theme");
themeButton.hidden = false;
themeButton.addEventListener("click", () => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  root.dataset.theme = (root.dataset.theme || system) === "dark" ? "light" : "dark";
});

/* Tables: sort by a column; numbers by their value, missing ones last; copy as CSV -------------- */

function compareCells(first, second, sign) {
  const empty = (cell) => cell.textContent === "";
  if (empty(first) || empty(second)) return empty(first) - empty(second);
  const [a, b] = [first, second].map((cell) => cell.dataset.key);
  if (a !== undefined && b !== undefined) return sign * (Number(a) - Number(b));
  return sign * first.textContent.localeCompare(second.textContent, "en", { numeric: true });
}

function sortBy(table, column) {
  const heading = table.tHead.rows[0].cells[column];
  const body = table.tBodies[0];
  const numeric = [...body.rows].some((row) => row.cells[column].dataset.key !== undefined);
  const before = heading.getAttribute("aria-sort");
  const falling = before === null ? numeric : before === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const rows = [...body.rows];
  rows.sort((a, b) => compareCells(a.cells[column], b.cells[column], falling ? -1 : 1));
  body.append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => sortBy(table, column));
  });
}

function csv(table) {
  const quoted = (cell) => `"${cell.textContent.replaceAll('"', '""')}"`;
  return [...table.rows].map((row) => [...row.cells].map(quoted).join(",")).join("\r\n") + "\r\n";
}

for (const details of document.querySelectorAll("figure details")) {
  const button = make("button", { type: "button" }, "Save as CSV");
  button.addEventListener("click", () => {
    const url = URL.createObjectURL(new Blob([csv(details.querySelector("table"))], { type: "text/csv" }));
    make("a", { href: url, download: `${details.parentElement.id}.csv` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  });
  details.querySelector("summary").after(button);
}

/* Games ---------------------------------------------------------------------------------------- */

const DEAL = 1;

/* What a game's numbers mean, worked out from its rules. */
class Rules {
  constructor(data) {
    Object.assign(this, data);
    this.offers = data.quantities.reduce((product, quantity) => product * (quantity + 1), 1);
  }

  bundle(offer, seat) {
    const toSeat1 = [];
    for (const quantity of [...this.quantities].reverse()) {
      toSeat1.unshift(offer % (quantity + 1));
      offer = Math.floor(offer / (quantity + 1));
    }
    return seat === 1 ? toSeat1 : toSeat1.map((units, item) => this.quantities[item] - units);
  }

  worth(values, bundle) {
    return bundle.reduce((sum, units, item) => sum + units * values[item], 0);
  }

  /* The split with the largest total payoff that gives both at least their outside offers, or -1. */
  best(values, totals, outside) {
    let best = -1, most = -1;
    for (let offer = 0; offer < this.offers; offer++) {
      const points = [0, 1].map((seat) => this.worth(values[seat], this.bundle(offer, seat)));
      const payoff = points[0] / totals[0] + points[1] / totals[1];
      if (points.every((point, seat) => point >= outside[seat]) && payoff > most) [best, most] = [offer, payoff];
    }
    return best;
  }
}

const slashed = (numbers) => numbers.join(" / ");
const percent = (share) => `${(100 * share).toFixed(0)} %`;

function hand(rules, seat, name, values, total, outside) {
  const rows = rules.quantities.map((quantity, item) =>
    make("tr", {}, ...["ABCDEFGH"[item], quantity, values[item], quantity * values[item]].map((n) => make("td", {}, n))));
  const last = make("tr", {}, make("td", { colspan: 3 }, "everything"), make("td", {}, total));
  const head = make("tr", {}, ...["item", "units", "value of one", "value of all"].map((h) => make("th", {}, h)));
  return make("div", { class: `seat-${seat}` },
    make("h4", {}, `Seat ${seat}: ${name}`),
    make("div", { class: "scroll" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows, last))),
    make("p", {}, `Outside offer: ${outside} of ${total} (${percent(outside / total)})`));
}

/* What a seat would get: a bar, the seat's outside offer as a tick on it, and the numbers. */
function worthCell(seat, what, points, total, outside) {
  const fill = make("i", { style: `width:${100 * points / total}%;background:var(--series-${seat})` });
  const tick = make("b", { style: `left:calc(${100 * outside / total}% - 1px)` });
  const bar = make("span", { class: "worth", "aria-hidden": "true" }, fill, tick);
  const verdict = points >= outside ? "≥ outside" : "< outside";
  return make("td", { class: points < outside ? "less" : "" }, bar,
    `${what}: ${points} (${percent(points / total)}) ${verdict}`);
}

function words(rules, action, mover) {
  if (action === rules.offers) return "accepts";
  if (action === rules.offers + 1) return "walks away";
  return `offers ${slashed(rules.bundle(action, 1 - mover))}, keeps ${slashed(rules.bundle(action, mover))}`;
}

/* What a language model said before its move: the reasoning in its reply, and each reply as it came. */

const READ = { schema: ", read as a JSON object", text: ", read as text" };

function reasoning(text) {
  try {
    const said = JSON.parse(text).reasoning;
    return typeof said === "string" ? said.trim() : "";
  } catch {
    return "";
  }
}

function reply([text, thoughts, finish], heading, open) {
  const parts = thoughts === null ? [] : [make("p", {}, "Reasoning that the server tells:"), make("pre", {}, thoughts)];
  const came = text === null ? [] : [make("pre", {}, text)];
  const end = finish === "stop" ? "" : ` (ended by ${finish})`;
  const words = text === null ? "no text" : "as it came";
  const summary = make("summary", {}, `${heading}: ${words}${end}`);
  return make("details", open ? { open: "" } : {}, summary, ...came, ...parts);
}

function saidRow(rules, [how, calls]) {
  const replies = calls.map(([number]) => rules.replies[number]);
  const given = replies.length ? reasoning(replies.at(-1)[0]) : "";
  const parts = given ? [make("p", {}, `“${given}”`)] : [];
  calls.forEach(([number, problem], k) => {
    const heading = `${calls.length > 1 ? `Reply ${k + 1}` : "Reply"}${READ[how] || ""}`;
    parts.push(reply(rules.replies[number], heading, !given && k === calls.length - 1));
    if (problem) parts.push(make("p", { class: "note" }, `No move: ${problem}`));
  });
  if (how === "fallback") parts.push(make("p", { class: "note" }, "The fallback moved."));
  if (how === "missing") parts.push(make("p", { class: "note" }, "The answers behind this move are not recorded."));
  return make("tr", { class: "said" }, make("td", { colspan: 6 }, ...parts));
}

function transcript(rules, pair, game) {
  const [index, actions, outcome, payoff0, payoff1, illegal, said = []] = game;
  const [values0, values1, outside] = rules.deals[index];
  const values = [values0, values1];
  const totals = values.map((own) => rules.worth(own, rules.quantities));
  const side = (offer, seat) => {
    const bundle = rules.bundle(offer, seat);
    return worthCell(seat, slashed(bundle), rules.worth(values[seat], bundle), totals[seat], outside[seat]);
  };
  const walked = (seat) => worthCell(seat, "outside offer", outside[seat], totals[seat], outside[seat]);
  let standing = -1;
  const moves = actions.flatMap((action, turn) => {
    if (action < rules.offers) standing = action;
    const sides = [0, 1].map((seat) => (action === rules.offers + 1 ? walked(seat) : side(standing, seat)));
    const cells = [turn + 1, Math.floor(turn / 2) + 1, `seat ${turn % 2}`].map((cell) => make("td", {}, String(cell)));
    const row = make("tr", {}, ...cells, make("td", { class: "move" }, words(rules, action, turn % 2)), ...sides);
    return said[turn] ? [row, saidRow(rules, said[turn])] : [row];
  });
  const headings = ["", "round", "mover", "move", "seat 0 gets", "seat 1 gets"];
  const head = make("tr", {}, ...headings.map((heading) => make("th", {}, heading)));
  const ending = outcome === DEAL ? "Deal." : "No deal: both take their outside offers.";
  const best = rules.best(values, totals, outside);
  const rational = best < 0 ? "No split gives both at least their outside offers."
    : `Best split that neither would refuse: seat 0 gets ${slashed(rules.bundle(best, 0))}, seat 1 gets ` +
      `${slashed(rules.bundle(best, 1))}, payoffs ` +
      [0, 1].map((s) => (rules.worth(values[s], rules.bundle(best, s)) / totals[s]).toFixed(3)).join(" and ") + ".";
  const notes = illegal ? [make("p", {}, `Illegal actions, executed as walking away: ${illegal}.`)] : [];
  return [
    make("div", { class: "hands" }, ...[0, 1].map((seat) =>
      hand(rules, seat, rules.names[pair[seat]], values[seat], totals[seat], outside[seat]))),
    make("div", { class: "scroll" },
      make("table", { class: "moves" }, make("thead", {}, head), make("tbody", {}, ...moves))),
    make("p", { class: "outcome" },
      `${ending} Payoffs: seat 0 ${payoff0.toFixed(4)}, seat 1 ${payoff1.toFixed(4)}, together ${(payoff0 + payoff1).toFixed(4)}.`),
    make("p", { class: "note" }, rational), ...notes,
  ];
}

function viewer(box) {
  const rules = new Rules(JSON.parse(box.querySelector("script").textContent));
  const size = rules.names.length;
  const pick = (label, options) => {
    const select = make("select", { "aria-label": label },
      ...options.map((option, value) => make("option", { value }, option)));
    return [make("label", {}, label, select), select];
  };
  const [label0, seat0] = pick("Seat 0", rules.names);
  const [label1, seat1] = pick("Seat 1", rules.names);
  const [labelOutcome, outcome] = pick("Outcome", ["all", "deals", "walks"]);
  const back = make("button", { type: "button" }, "← Previous");
  const next = make("button", { type: "button" }, "Next →");
  const where = make("span", { "aria-live": "polite" });
  const stage = make("div", { class: "stage" });
  box.append(
    make("div", { class: "choices" }, label0, label1, labelOutcome, make("span", { class: "turn" }, back, next, where)),
    stage);
  let at = 0;

  function show() {
    const pair = [Number(seat0.value), Number(seat1.value)];
    const games = rules.cells[pair[0] * size + pair[1]]
      .filter((game) => outcome.value === "0" || game[2] === Number(outcome.value));
    at = Math.min(Math.max(at, 0), Math.max(games.length - 1, 0));
    back.disabled = at === 0;
    next.disabled = at >= games.length - 1;
    where.textContent = games.length ? `${at + 1} of ${games.length}: deal ${games[at][0]}` : "";
    stage.replaceChildren(...(games.length ? transcript(rules, pair, games[at])
      : [make("p", {}, "The sample of this pair has no such game.")]));
  }

  function turn(step) { at += step; show(); }
  function restart() { at = 0; show(); }
  for (const select of [seat0, seat1, outcome]) select.addEventListener("change", restart);
  back.addEventListener("click", () => turn(-1));
  next.addEventListener("click", () => turn(1));
  box.addEventListener("keydown", (event) => {
    if (event.target instanceof HTMLSelectElement || !["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    event.preventDefault();
    turn(event.key === "ArrowRight" ? 1 : -1);
  });
  show();
  return (row, column) => {
    [seat0.value, seat1.value, outcome.value] = [row, column, 0];
    restart();
    box.scrollIntoView({ block: "start" });
    box.focus({ preventScroll: true });
  };
}

/* A click on a cell of a cross-play's figures opens the games of that pair. */
for (const box of document.querySelectorAll(".viewer")) {
  const open = viewer(box);
  const prefix = box.closest("section").id.replace(/-games$/, "");
  for (const cell of document.querySelectorAll(`[id="${prefix}"] [data-cell], [id^="${prefix}-"] [data-cell]`)) {
    cell.addEventListener("click", () => open(...cell.dataset.cell.split(",").map(Number)));
  }
}
