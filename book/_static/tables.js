// Tables that sort: the words of a column's head become a button, and `aria-sort` tells the order.
// First press: upwards; second: downwards; third: as the page has it. What is missing stays last.
"use strict";
(() => {
  const PREFIXES = {
    n: 1e-9, "µ": 1e-6, m: 1e-3, k: 1e3, K: 1e3, M: 1e6, G: 1e9, B: 1e9, T: 1e12, P: 1e15, E: 1e18,
  };
  const SECONDS = {
    s: 1, second: 1, min: 60, minute: 60, h: 3600, hour: 3600, day: 86400, week: 604800,
    month: 2629800, year: 31557600,
  };
  const MISSING = /^(|[-–—]+|n\/?a|nan|none(?: published)?|unknown|not (measured|known|stated|published|given).*)$/i;
  const NUMBER =
    /^[\s$€£~≈<>≤≥+]*([-−]?\s?[$€£]?[\d,]*\.?\d+(?:e[-+]?\d+)?)(?:\s*[×·]\s*10([⁺⁻−-]?[⁰¹²³⁴-⁹]+))?(.*)$/is;
  const DATE = /^\d{4}-\d\d/;
  const RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹";

  // The first number of a cell with its unit's factor, or null. "8.03B" is 8.03e9, "5 ms" 0.005.
  function numberOf(text) {
    const found = NUMBER.exec(text.trim());
    if (!found || DATE.test(text)) return null;
    let value = Number(found[1].replace(/[,\s$€£]/g, "").replace("−", "-"));
    if (found[2]) {
      const power = [...found[2]].map(c => RAISED.includes(c) ? RAISED.indexOf(c) : c).join("");
      value *= 10 ** Number(power.replace(/[⁻−]/, "-").replace("⁺", ""));
    }
    return value * factorOf(found[3]);
  }

  // A letter alone is a count's ("8B", "10T"), one before a unit its prefix ("80 GB", "3.35 TB/s").
  function factorOf(rest) {
    const unit = /^\s*([A-Za-zµ]+)/.exec(rest)?.[1];
    if (!unit) return 1;
    const seconds = SECONDS[unit] || SECONDS[unit.replace(/s$/, "")];
    if (seconds) return seconds;
    if (unit === "ms") return 1e-3;
    if (/^[KMBT]$/.test(unit)) return unit === "B" && /^\s/.test(rest) ? 1 : PREFIXES[unit];
    if (/^[nµmkKMGTPE](B|b|s|W|Wh|J|params|op|ops|FLOP|FLOPs|Hz|bit|bits|tokens?)$/.test(unit))
      return PREFIXES[unit[0]];
    return 1;
  }

  const words = new Intl.Collator("en", {numeric: true, sensitivity: "base"});
  const compare = (a, b) => typeof a === "number" ? a - b : words.compare(a, b);
  const textOf = cell => cell.textContent.replace(/\s+/g, " ").trim();

  // Cells of one column as keys: numbers if most of what is there begins with one.
  function keysOf(texts) {
    const there = texts.filter(text => !MISSING.test(text));
    const numbers = there.filter(text => numberOf(text) !== null);
    const numeric = numbers.length > 0 && numbers.length * 2 > there.length;
    return texts.map(text => MISSING.test(text) ? null : numeric ? numberOf(text) : text);
  }

  function sort(table, head, column) {
    const before = head.getAttribute("aria-sort");
    const order = before === "ascending" ? "descending" : before ? "none" : "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    if (order !== "none") head.setAttribute("aria-sort", order);

    const body = table.tBodies[0];
    const rows = [...body.rows].sort((a, b) => a.dataset.place - b.dataset.place);
    const keys = new Map();
    keysOf(rows.map(row => textOf(row.cells[column]))).forEach((key, i) => keys.set(rows[i], key));
    const sign = order === "descending" ? -1 : 1;
    if (order !== "none")
      rows.sort((one, other) => {
        const [a, b] = [keys.get(one), keys.get(other)];
        if (a === null || b === null) return (a === null) - (b === null);
        return sign * compare(a, b);
      });
    body.append(...rows);
  }

  // Only plain tables: one row of heads, more rows than the eye takes in, no cell over two places.
  function sortable(table) {
    const {tHead: head, tBodies: [body]} = table;
    if (head?.rows.length !== 1 || table.tBodies.length !== 1 || body.rows.length < 7) return false;
    const width = head.rows[0].cells.length;
    return [...head.rows, ...body.rows].every(
      row => row.cells.length === width &&
        [...row.cells].every(cell => cell.colSpan === 1 && cell.rowSpan === 1));
  }

  function prepare(table) {
    [...table.tBodies[0].rows].forEach((row, place) => { row.dataset.place = place; });
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      if (head.tagName !== "TH" || !textOf(head)) return;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sw-sort";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(table, head, column));
      head.append(button);
    });
  }

  // A long table gets a field that leaves the rows with these words.
  function filter(table) {
    const label = document.createElement("label"), field = document.createElement("input");
    label.className = "sw-filter";
    field.type = "search";
    label.append("Filter ", field);
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/);
      for (const row of table.tBodies[0].rows)
        row.hidden = !words.every(word => textOf(row).toLowerCase().includes(word));
    });
    table.before(label);
  }

  // On a phone a table wider than its frame becomes a list: each value after its column's head.
  function stack(table) {
    const {clientWidth: room, scrollWidth: width} = table.parentElement, [head, ...rows] = table.rows;
    if (width <= room + 1) return;
    for (const row of rows) [...row.cells].forEach((cell, column) => {
      cell.dataset.label = textOf(head.cells[column] || cell);
    });
    table.classList.add("sw-stack");
  }

  // The ledger has filters of its own.
  const tables = ".bd-article table:is(.sw-table, .table):not(.sw-ledger)";
  for (const table of document.querySelectorAll(tables)) if (sortable(table)) {
    prepare(table);
    if (table.tBodies[0].rows.length > 40) filter(table);
  }
  // One inside a folded part has no width until that is opened.
  const stackIn = place => place.querySelectorAll(`${tables}:not([class*=sw-calc])`).forEach(stack);
  if (matchMedia("(max-width: 576px)").matches) {
    stackIn(document);
    addEventListener("resize", () => stackIn(document));
    addEventListener("toggle", event => stackIn(event.target), true);
  }
})();
