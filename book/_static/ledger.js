// The ledger's filters: by words, verdict, topic, article and chapter. The choice stands in the
// address, so it can be sent on; without this script the page shows every claim.
"use strict";
(() => {
  const table = document.querySelector("table.sw-ledger");
  if (!table) return;
  const rows = [...table.tBodies[0].rows];
  // What a row offers to each choice; the titles of topics, articles and chapters by name.
  const CHOICES = {
    verdict: row => [row.dataset.verdict],
    topic: row => [row.dataset.topic],
    article: row => row.dataset.articles.split(" "),
    chapter: row => row.dataset.chapter ? [row.dataset.chapter] : [],
  };
  const names = JSON.parse(table.dataset.names || "{}");
  const title = (field, value) => {
    const known = names[field]?.[value];
    if (field === "article" && known) return `${value}: ${known}`;
    return known || value[0].toUpperCase() + value.slice(1);
  };
  // "llama-3.1-70b" and "Llama 3.1 70B" are one name, however it is cut.
  const plain = text => text.toLowerCase().replace(/[-‐‑–_\s]+/g, " ").trim();
  const texts = new Map(rows.map(
    row => [row, plain([...row.cells].map(cell => cell.textContent).join(" "))]));

  const form = document.createElement("form"), fields = {};
  form.className = "sw-filter";
  form.setAttribute("role", "search");
  form.setAttribute("aria-label", "Claims");
  function add(name, text, control) {
    const label = document.createElement("label");
    label.append(text, control);
    control.name = name;
    fields[name] = control;
    form.append(label);
  }

  const words = document.createElement("input");
  words.type = "search";
  words.autocomplete = "off";
  add("words", "Words or number", words);
  for (const [name, of] of Object.entries(CHOICES)) {
    const counts = new Map(), select = document.createElement("select");
    for (const value of rows.flatMap(of)) counts.set(value, (counts.get(value) || 0) + 1);
    select.append(new Option("All", ""));
    for (const [value, count] of name === "article" ? [...counts].sort() : counts)
      select.append(new Option(`${title(name, value)} (${count})`, value));
    add(name, name[0].toUpperCase() + name.slice(1), select);
  }
  const clear = document.createElement("button"), status = document.createElement("output");
  clear.type = "reset";
  clear.textContent = "Show all";
  status.className = "sw-filter__count";
  form.append(clear, status);

  function matches(row) {
    for (const [name, of] of Object.entries(CHOICES))
      if (fields[name].value && !of(row).includes(fields[name].value)) return false;
    const query = words.value.trim();
    // A number alone is first of all a claim's own.
    if (rows.some(other => other.id === `ledger-${query}`)) return row.id === `ledger-${query}`;
    return query.split(/\s+/).map(plain).every(word => texts.get(row).includes(word));
  }

  function show() {
    let shown = 0;
    for (const row of rows) shown += !(row.hidden = !matches(row));
    const count = `${shown} of ${rows.length} claims shown`;
    if (status.textContent !== count) status.textContent = count;  // a live region: said when changed
  }

  function fromAddress() {
    const query = new URLSearchParams(location.search);
    for (const [name, field] of Object.entries(fields)) {
      field.value = query.get(name) || "";
      if (field.selectedIndex === -1) field.value = "";  // no such choice
    }
    show();
    if (location.hash) showTarget();
    // Who asks for some claims came for these, not for what stands above them.
    else if (Object.values(fields).some(field => field.value))
      form.scrollIntoView({behavior: "instant", block: "start"});
  }

  function toAddress() {
    const query = new URLSearchParams(
      Object.entries(fields).filter(([, field]) => field.value).map(([name, field]) => [name, field.value]));
    history.replaceState(null, "", location.pathname + (query.size ? `?${query}` : ""));
  }

  // A link to a claim that the filters hide shows all claims again.
  function showTarget() {
    const target = document.getElementById(location.hash.slice(1));
    if (!rows.includes(target)) return;
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
