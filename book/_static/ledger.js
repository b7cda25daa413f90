// The ledger's filters: by words, verdict, topic, article and chapter. The choice stands in the address,
// so it can be sent on; without this script the page shows every claim.
"use strict";
(() => {
  const table = document.querySelector("table.sw-ledger");
  if (!table) return;
  const rows = [...table.tBodies[0].rows];
  const FIELDS = ["words", "verdict", "topic", "article", "chapter"];
  const CHOICES = FIELDS.slice(1);

  const of = {
    article: row => row.dataset.articles.split(" "),
    topic: row => [row.dataset.topic],
    verdict: row => [row.dataset.verdict],
    chapter: row => row.dataset.chapter ? [row.dataset.chapter] : [],
  };
  const counts = field => {
    const found = new Map();
    for (const row of rows) for (const one of of[field](row)) found.set(one, (found.get(one) || 0) + 1);
    return found;
  };
  // "llama-3.1-70b" and "Llama 3.1 70B" are one name, however it is cut.
  const plain = text => text.toLowerCase().replace(/[-‐‑–_\s]+/g, " ").trim();
  const said = row => plain([...row.cells].map(cell => cell.textContent).join(" "));
  const texts = new Map(rows.map(row => [row, said(row)]));

  const form = document.createElement("form");
  form.className = "sw-filter";
  form.setAttribute("role", "search");
  form.setAttribute("aria-label", "Claims");
  const fields = {};
  const LABELS = {
    article: "Article", topic: "Topic", verdict: "Verdict", chapter: "Chapter",
    words: "Words or number",
  };
  // The titles of articles, topics and chapters by the names that stand in the rows.
  const names = JSON.parse(table.dataset.names || "{}");
  const told = {
    article: value => names.article?.[value] ? `${value}: ${names.article[value]}` : value,
    topic: value => names.topic?.[value] || value,
    verdict: value => value[0].toUpperCase() + value.slice(1),
    chapter: value => names.chapter?.[value] || value,
  };

  function add(name, control) {
    const label = document.createElement("label");
    label.append(LABELS[name], control);
    control.name = name;
    fields[name] = control;
    form.append(label);
  }

  const words = document.createElement("input");
  words.type = "search";
  words.autocomplete = "off";
  add("words", words);
  for (const name of CHOICES) {
    const select = document.createElement("select");
    select.append(new Option("All", ""));
    const found = [...counts(name)];
    if (name === "article") found.sort();
    for (const [value, count] of found)
      select.append(new Option(`${told[name](value)} (${count})`, value));
    add(name, select);
  }

  const clear = document.createElement("button");
  clear.type = "reset";
  clear.textContent = "Show all";
  const status = document.createElement("output");
  status.className = "sw-filter__count";
  form.append(clear, status);

  function matches(row) {
    for (const name of CHOICES)
      if (fields[name].value && !of[name](row).includes(fields[name].value)) return false;
    const asked = fields.words.value.trim();
    // A number alone is first of all a claim's own.
    if (rows.some(one => one.id === `ledger-${asked}`)) return row.id === `ledger-${asked}`;
    return asked.split(/\s+/).map(plain).every(word => texts.get(row).includes(word));
  }

  function show() {
    const shown = rows.filter(matches);
    for (const row of rows) row.hidden = true;
    for (const row of shown) row.hidden = false;
    const count = `${shown.length} of ${rows.length} claims shown`;
    if (status.textContent !== count) status.textContent = count;  // a live region: said when changed
    clear.disabled = FIELDS.every(name => !fields[name].value);
  }

  function fromAddress() {
    const asked = new URLSearchParams(location.search);
    for (const name of FIELDS) {
      fields[name].value = asked.get(name) || "";
      if (fields[name].selectedIndex === -1) fields[name].value = "";  // no such choice
    }
    show();
    if (location.hash) showTarget();
    // Who asks for some claims came for these, not for what stands above them.
    else if (FIELDS.some(name => fields[name].value))
      form.scrollIntoView({behavior: "instant", block: "start"});
  }

  function toAddress() {
    const asked = new URLSearchParams(location.search);
    for (const name of FIELDS)
      fields[name].value ? asked.set(name, fields[name].value) : asked.delete(name);
    const query = asked.toString();
    history.replaceState(null, "", location.pathname + (query ? `?${query}` : ""));
  }

  // A link to a claim that the filters hide shows all claims again.
  function showTarget() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (!target || !rows.includes(target)) return;
    if (target.hidden) { form.reset(); show(); }
    target.scrollIntoView({block: "center"});
  }

  form.addEventListener("input", () => { show(); toAddress(); });
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { show(); toAddress(); words.focus(); }));
  addEventListener("popstate", fromAddress);
  addEventListener("hashchange", showTarget);
  (table.closest(".pst-scrollable-table-container") || table).before(form);
  fromAddress();
})();
