/* Runs the calculators of the page. It reads fields, looks up and adds up rows, and writes numbers.
   Every formula comes from the library: see calculators-formulas.js, made when the site was built,
   and calculators-forecast.js, which the tests hold against the library. */
(() => {
  "use strict";

  // ---- numbers as people type and read them

  const LETTERS = { "": 1, k: 1e3, m: 1e6, b: 1e9, g: 1e9, t: 1e12, p: 1e15 };
  const BINARY = { k: 1024, m: 1024 ** 2, b: 1024 ** 3, g: 1024 ** 3, t: 1024 ** 4, p: 1024 ** 5 };
  const TYPED = /^(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*(?:([kmbgtp])(i?)|(%))?$/i;

  function parse(words) {
    const found = TYPED.exec(words.trim().replace(/[,_]/g, ""));
    if (!found) return NaN;
    const letter = (found[3] || "").toLowerCase();
    const digits = Number(found[1] + (found[2] || ""));
    if (found[5]) return digits / 100;
    return digits * (found[4] ? BINARY[letter] : LETTERS[letter]);
  }

  const PREFIXES = [["T", 1e12], ["G", 1e9], ["M", 1e6], ["k", 1e3], ["", 1], ["m", 1e-3],
    ["µ", 1e-6], ["n", 1e-9]];
  const SHORT = [["T", 1e12], ["B", 1e9], ["M", 1e6], ["K", 1e3], ["", 1]];
  const TIMES = [["years", 31557600], ["days", 86400], ["hours", 3600], ["minutes", 60],
    ["seconds", 1]];

  const commas = (value) => value.toLocaleString("en-US", { maximumFractionDigits: 0 });
  const power = (value, places) => value.toExponential(places).replace("e+", "e");

  function digits(value) {
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size >= 999.5) return size < 1e15 ? commas(value) : power(value, 2);
    return size < 1e-3 ? power(value, 2) : String(Number(value.toPrecision(3)));
  }

  function scaled(value, steps, between) {
    const [letter, size] = steps.find((step) => Math.abs(value) >= 0.9995 * step[1]) || ["", 1];
    return digits(value / size) + between + letter;
  }

  const short = (value) => scaled(value, SHORT, "");
  const prefixed = (value, unit) => scaled(value, PREFIXES, " ") + unit;

  const UNITS = {
    word: (value) => value,
    count: commas,
    B: (value) => prefixed(value, "B"),
    s: (value) => prefixed(value, "s"),
    J: (value) => prefixed(value, "J"),
    Wh: (value) => prefixed(value / 3600, "Wh"),
    energy: (value) => `${prefixed(value, "J")} (${prefixed(value / 3600, "Wh")})`,
    $: (value) => "$" + (value >= 1000 ? short(value) : digits(value)),
    h: (value) => short(value) + " hours",
    time(value) {
      const [name, size] = TIMES.find((step) => value >= step[1]) || ["seconds", 1];
      return digits(value / size) + " " + name;
    },
    FLOP: (value) => power(value, 2) + " FLOPs",
    nats: (value) => value.toFixed(3),
    "%": (value) => digits(100 * value) + " %",
    times: (value) => digits(value) + " times as much",
  };

  function written(values, unit, missing) {
    if (values.some((value) => value == null)) return missing;
    if (unit === "of") return `${digits(values[0])} of ${digits(values[1])}`;
    const one = UNITS[unit] || short;
    return [...new Set(values.map((value) => one(value)))].join(" to ");
  }

  // ---- values: formulas over scopes, rows inside them

  class Refused extends Error {
    constructor(message, names) {
      super(message);
      this.names = names;
    }
  }

  const filled = (message, scope) =>
    message.replace(/\{(\w+)\}/g, (_, name) => digits(Number(scope[name])));

  function value(formula, scope) {
    const known = (names) => names.every((name) => scope[name] != null);
    for (const check of formula.checks) {
      if (known(check.needs) && check.holds(scope)) {
        throw new Refused(filled(check.message, scope), check.needs);
      }
    }
    if (!known(formula.needs)) return null;
    const found = formula.value(scope);
    return Number.isFinite(found) ? found : null;
  }

  function open(scope) {
    for (const [name, one] of Object.entries(scope)) {
      if (one && one.needs) scope[name] = value(one, scope);
      else if (Array.isArray(one)) scope[name] = one.map((row) => inside(scope, row));
      else if (one && typeof one === "object") {
        scope[name] = Object.entries(one).map(([key, row]) => inside(scope, { ...row, name: key }));
      }
    }
    return scope;
  }

  const inside = (scope, row) => open(Object.assign(Object.create(scope), row));

  function apply(step, scope, path) {
    if (step.given && scope[step.name] != null) return;
    if (!path.length) {
      const formula = step.formulas[scope.form] || step.formulas[""];
      scope[step.name] = formula ? value(formula, scope) : null;
      return;
    }
    const rows = scope[path[0]];
    if (rows == null) { // not known, so neither is their sum
      scope[step.name] = null;
      return;
    }
    for (const row of rows) apply(step, row, path.slice(1));
    if (step.total && path.length === 1) {
      scope[step.name] = rows.reduce(
        (sum, row) => sum + (Object.hasOwn(row, "count") ? row.count : 1) * row[step.name], 0);
    }
  }

  const isOpen = (field, given) => !field.when || given[field.when] === "own";

  /* given: the choice or number of each field; null where an optional field is empty. */
  function evaluate(id, given, limits = true, data = globalThis.sizewiseCalculators) {
    const calculator = data.calculators[id], scope = steps(calculator, given, data);
    for (const limit of limits ? calculator.limits : []) {
      const holds = (value) =>
        steps(calculator, { ...given, [limit.field]: value }, data).needed <= scope.devices;
      const size = largest(holds, limit.most), bound = scope[limit.bound];
      scope[limit.name] = size && bound && size > bound ? bound : size;
    }
    if (calculator.forecast) Object.assign(scope, sizewiseForecast(scope, data.forecast));
    return scope;
  }

  /* The largest number from 1 to most for which holds, which only ever turns false; else null. */
  function largest(holds, most) {
    if (!holds(1)) return null;
    let low = 1, high = 2;
    while (high <= most && holds(high)) [low, high] = [high, 2 * high];
    high = high > most ? most + 1 : high;
    while (high - low > 1) {
      const middle = (low + high - (low + high) % 2) / 2;
      if (holds(middle)) low = middle; else high = middle;
    }
    return low;
  }

  function steps(calculator, given, data) {
    const table = (name) => data.tables[calculator.tables[name]];
    const scope = calculator.rows ? { [calculator.rows]: table(calculator.rows) } : {};
    for (const field of calculator.fields) {
      if (field.kind === "choice") Object.assign(scope, table(field.table)[given[field.name]]);
      else if (isOpen(field, given)) {
        const value = given[field.name] ?? (field.otherwise ? given[field.otherwise] : null);
        if (value == null) continue;
        const names = field.sets.length ? field.sets : [field.name];
        names.forEach((name, at) => { scope[name] = Array.isArray(value) ? value[at] : value; });
      }
    }
    if (calculator.crossed.length) {
      const [name, [row, column], names] = calculator.crossed;
      const values = (data.tables[name][given[row]] || {})[given[column]] || [];
      values.forEach((value, at) => { scope[names[at]] = value; });
    }
    open(scope);
    for (const step of calculator.steps) apply(step, scope, step.over);
    return scope;
  }

  /* The sentence that says yes or no, if this calculator has one. */
  function answered(id, given, scope, data = globalThis.sizewiseCalculators) {
    const { answer } = data.calculators[id];
    const words = answer && answer.words[scope[answer.value]];
    if (!words) return "";
    return words.replace(/\{(\w+)\}/g, (_, name) => {
      if (typeof given[name] !== "string") return digits(scope[name]);
      return given[name] === "own" ? answer.own[name] : given[name].replaceAll("-", " ");
    });
  }

  /* The values of each line of a calculator's curve, point by point; null where not known. */
  function curve(id, given, data = globalThis.sizewiseCalculators) {
    const { field, points, lines } = data.calculators[id].curve;
    const cases = points.map((point) =>
      attempt(() => evaluate(id, { ...given, [field]: parse(point) }, false, data)));
    return lines.flatMap((line) => line.values).map((name) => cases.map((one) => one[name] ?? null));
  }

  // ---- fields: what was typed, and what is wrong with it

  function problem(field, number, given, fields) {
    if (Array.isArray(number)) {
      if (number.length > 2 || number[0] > number[1]) return "Write a number, or a range as 2:3.";
      return number.map((end) => problem(field, end, given, fields)).find(Boolean) || "";
    }
    if (Number.isNaN(number)) return "Write a number, such as 70B, 32k, 128Ki or 1e13.";
    if (field.kind === "whole" && !Number.isInteger(number)) return "Write a whole number.";
    if (number < field.least) return `At least ${plainly(field.least, field)}.`;
    const other = fields.find((one) => one.name === field.most);
    const most = other ? given[other.name] : field.most;
    if (number > most) {
      const which = other ? `, the number under “${other.label}”` : "";
      return `At most ${plainly(most, field)}${which}.`;
    }
    return "";
  }

  const plainly = (number, field) => Array.isArray(number)
    ? [...new Set(number)].map(digits).join(" to ") : field.kind === "share" ? `${digits(100 * number)} %` : digits(number);

  /* 2 or 2:3 as its two ends */
  function ends(words) {
    const found = words.split(":").map(parse);
    return found.length === 1 ? [found[0], found[0]] : found;
  }

  /* words: what stands in each field -> the numbers, and what is wrong where. */
  function check(fields, words) {
    const given = {}, wrong = {};
    for (const field of fields) {
      const typed = words[field.name];
      given[field.name] = field.kind === "choice" ? typed
        : field.optional && !typed.trim() ? null
          : field.kind === "range" ? ends(typed) : parse(typed);
    }
    for (const field of fields) {
      if (field.kind === "choice" || given[field.name] === null || !isOpen(field, given)) continue;
      const said = problem(field, given[field.name], given, fields);
      if (said) wrong[field.name] = said;
    }
    return { given, wrong };
  }

  /* A case that the library refuses has no values. */
  function attempt(values) {
    try {
      return values();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      return {};
    }
  }

  globalThis.sizewise = { parse, written, evaluate, answered, check, curve };
  if (typeof document === "undefined") return;

  // ---- one calculator on the page

  const COLOURS = ["weights", "cache", "activations"];

  class Calculator {
    constructor(box) {
      this.box = box;
      this.id = box.dataset.calculator;
      this.data = globalThis.sizewiseCalculators.calculators[this.id];
      this.form = box.querySelector("form");
      this.controls = this.form.elements;
      this.results = box.querySelector(".sw-calc__results");
      this.form.hidden = false;
      this.form.addEventListener("submit", (event) => event.preventDefault());
      this.form.addEventListener("input", () => this.later());
      this.form.addEventListener("change", () => this.update());
      this.button("reset", () => this.reset());
      this.button("link", () => this.copy());
      if (this.data.reads) this.button("read", () => this.read());
      for (const beside of box.querySelectorAll(".sw-calc__beside")) {
        beside.addEventListener("toggle", () => this.update(false));
      }
      if (box.querySelector("[data-curve]")) this.curve = new sizewiseCurve.Curve(this);
    }

    button(name, act) {
      this.form.querySelector(`[data-do="${name}"]`).addEventListener("click", act);
    }

    words() {
      return Object.fromEntries(
        this.data.fields.map((field) => [field.name, this.controls[field.name].value]));
    }

    later() {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.update(), 250);
    }

    update(remember = true) {
      clearTimeout(this.timer);
      const { given, wrong } = check(this.data.fields, this.words());
      for (const group of this.box.querySelectorAll("[data-when]")) {
        group.hidden = given[group.dataset.when] !== "own";
      }
      let scope = null;
      if (!Object.keys(wrong).length) {
        try {
          scope = evaluate(this.id, given);
        } catch (error) {
          if (!(error instanceof Refused)) throw error;
          const named = this.data.fields.find(
            (field) => error.names.includes(field.name) && isOpen(field, given));
          wrong[(named || this.data.fields[0]).name] = error.message;
        }
      }
      this.mark(given, wrong);
      this.results.classList.toggle("sw-calc__results--stale", !scope);
      this.note(scope);
      if (scope) this.show(scope, given);
      if (remember) remembered();
    }

    /* The message at each field, and how what was typed is understood. */
    mark(given, wrong) {
      for (const field of this.data.fields) {
        const control = this.controls[field.name];
        const said = wrong[field.name] || "";
        const place = this.box.querySelector(`#${CSS.escape(control.id)}-error`);
        if (place.textContent !== said) place.textContent = said;
        if (said) control.setAttribute("aria-invalid", "true");
        else control.removeAttribute("aria-invalid");
        const read = this.box.querySelector(`[data-read="${field.name}"]`);
        if (field.kind === "choice") continue;
        const number = given[field.name];
        const told = said || number == null ? "" : plainly(number, field);
        const typed = control.value.replace(/[,\s]/g, "");
        read.textContent = !told || told.replace(/[,\s]/g, "") === typed ? "" : `= ${told}`;
      }
    }

    note(scope) {
      const said = scope ? ""
        : "Something above is not right: these are the results of the case before it.";
      const place = this.box.querySelector("[data-note]");
      if (place.textContent !== said) place.textContent = said;
    }

    show(scope, given) {
      const answer = this.results.querySelector("[data-answer]");
      if (answer) {
        answer.dataset.value = scope[this.data.answer.value] ?? "";
        const said = answered(this.id, given, scope);
        if (answer.textContent !== said) answer.textContent = said;
      }
      const rows = new Map((scope[this.data.rows] || []).map((row) => [row.name, row]));
      // Side by side only where it is looked at: a case for each device, or point of the curve.
      for (const row of this.box.querySelectorAll("[open] [data-beside]")) {
        const { row: name, beside } = row.dataset;
        const isChoice = this.data.fields.find((field) => field.name === beside).kind === "choice";
        const one = { ...given, [beside]: isChoice ? name : parse(name) };
        rows.set(name, attempt(() => evaluate(this.id, one, false)));
      }
      for (const cell of this.box.querySelectorAll("[data-names]")) {
        const names = cell.dataset.names.split(" ");
        const { row } = cell.parentElement.dataset;
        if (row && !rows.has(row)) continue;
        const result = this.data.results.find((one) =>
          one.values.join(" ") === cell.dataset.names && one.inRows === Boolean(row));
        const from = rows.get(row) || scope;
        const values = names.map((name) => from[name] ?? null);
        cell.dataset.value = values.map((one) => one ?? "").join(" ");
        const said = written(values, result.unit, result.missing);
        if (cell.textContent !== said) cell.textContent = said; // else it would be read out again
      }
      if (this.data.picture.length) this.draw(scope);
      if (this.curve) this.curve.update(given, scope);
    }

    /* One bar as long as the devices; what is held fills it from the left. */
    draw(scope) {
      const place = this.box.querySelector("[data-picture]");
      const room = this.data.against.reduce((product, name) => product * scope[name], 1);
      const parts = this.data.picture.map((name, at) => ({
        label: this.data.results.find((one) => one.values[0] === name).label,
        share: scope[name] / room, colour: COLOURS[at],
      }));
      const told = parts.map((one) => `${one.label}: ${written([one.share], "%")}`).join("; ");
      const count = scope[this.data.against[1]];
      const whole = `Of the memory of ${commas(count)} device${count === 1 ? "" : "s"}: `;
      const bar = document.createElement("div");
      bar.className = "sw-calc__bar";
      bar.setAttribute("role", "img");
      bar.setAttribute("aria-label", `${whole}${told}.`);
      const legend = document.createElement("p");
      legend.className = "sw-calc__legend";
      legend.append(whole);
      for (const one of parts) {
        const piece = document.createElement("span");
        piece.className = `sw-calc__piece sw-calc__piece--${one.colour}`;
        piece.style.width = written([one.share], "%").replace(" ", "");
        bar.append(piece);
        const key = document.createElement("span");
        key.className = `sw-calc__key sw-calc__key--${one.colour}`;
        key.textContent = `${one.label.split(",")[0].toLowerCase()} ${written([one.share], "%")}`;
        legend.append(key);
      }
      place.replaceChildren(bar, legend);
    }

    /* A pasted config.json fills the fields; the page says what it took it for. */
    read() {
      const { words, said } = sizewiseConfig.read(
        this.box.querySelector("[data-config]").value, this.data.reads);
      if (words) this.set({ ...this.words(), ...words });
      const place = this.box.querySelector("[data-config-said]");
      place.textContent = said;
      place.toggleAttribute("data-wrong", !words);
    }

    reset() {
      this.set({});
      this.say("Everything as it was at first.");
      this.controls[this.data.fields[0].name].focus();
    }

    /* Every field to its default, but those named. A choice that is not there is left out. */
    set(words) {
      for (const field of this.data.fields) {
        const control = this.controls[field.name];
        control.value = words[field.name] ?? field.default;
        if (field.kind === "choice" && control.selectedIndex < 0) control.value = field.default;
      }
      this.update();
    }

    /* Every field of the case, as pairs for the address: a default may change one day, and a
       link must not change with it. Fields that are not open have no say. */
    state() {
      const words = this.words();
      return this.data.fields
        .filter((field) => isOpen(field, words))
        .map((field) => [`${this.id}.${field.name}`, words[field.name]]);
    }

    changed() {
      const words = this.words();
      return this.data.fields.some(
        (field) => isOpen(field, words) && words[field.name] !== field.default);
    }

    async copy() {
      const address = `${location.href.split("#")[0]}#${addressed(this.state())}`;
      try {
        await navigator.clipboard.writeText(address);
        this.say("The link is copied.");
      } catch {
        window.prompt("The link to this case:", address);
      }
    }

    say(words) {
      const place = this.form.querySelector(".sw-calc__said");
      place.textContent = words;
      setTimeout(() => { place.textContent = ""; }, 4000);
    }
  }

  // ---- the address

  let calculators = [], waiting = 0, restoring = false;

  const addressed = (pairs) => new URLSearchParams(pairs).toString();

  function remembered() {
    if (restoring) return;
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      const pairs = calculators.flatMap((one) => one.changed() ? one.state() : []);
      if (pairs.length) history.replaceState(null, "", `#${addressed(pairs)}`);
      else if (location.hash.includes("=")) {
        history.replaceState(null, "", location.pathname + location.search);
      }
    }, 300);
  }

  function restore() {
    const pairs = [...new URLSearchParams(location.hash.slice(1))];
    if (!location.hash.includes("=")) return;
    restoring = true;
    const named = calculators.filter((one) => {
      const mine = pairs.filter(([key]) => key.startsWith(`${one.id}.`))
        .map(([key, words]) => [key.slice(one.id.length + 1), words]);
      one.set(Object.fromEntries(mine));
      return mine.length;
    });
    restoring = false;
    if (named.length) named[0].box.scrollIntoView();
  }

  calculators = [...document.querySelectorAll("[data-calculator]")].map((box) =>
    new Calculator(box));
  for (const one of calculators) one.update(false);
  restore();
  window.addEventListener("hashchange", restore);
})();
