// "Run here": the chapter's own code in the reader's browser. Nothing loads before the click.
"use strict";
(() => {
  const base = new URL("../live/", document.currentScript.src);
  const chapter = location.pathname.split("/").pop().replace(/\.html$/, "");
  const panel = document.querySelector(".sw-live");
  const status = panel.querySelector("[role=status]");
  const say = words => { status.textContent = words; };
  let files, worker, started;

  async function open() {
    const get = async name => (await fetch(new URL(name, base))).json();
    files ||= await get("files.json");
    const cells = await get(`chapters/${chapter}.json`);
    const own = cells.find(cell => cell.parameters);
    panel.insertAdjacentHTML("beforeend", `<label for="sw-live-own">Parameters</label>
      <textarea id="sw-live-own" spellcheck="false"></textarea>
      <button type="button" data-do="run">Run</button>
      <button type="button" data-do="stop" hidden>Stop</button>`);
    const text = panel.querySelector("textarea");
    text.value = own.source;
    text.rows = own.source.split("\n").length + 1;
    panel.querySelector("[data-do=open]").remove();
    panel.querySelector("[data-do=run]").onclick = () =>
      run(cells, cells.map(cell => cell === own ? text.value : cell.source));
    panel.querySelector("[data-do=stop]").onclick = () => finish("Stopped.");
    say(`Loads about ${files.megabytes} MB, once; Run then makes the numbers below here.`);
    (worker ||= new Worker(new URL("worker.js", base))).postMessage({files});  // while you look
    text.focus();
  }

  function run(cells, sources) {
    // A cell that the page hides has no place on it; the others are counted.
    let next = 0;
    const places = cells.map(cell =>
      cell.removed ? null : document.querySelector(`.bd-article div.cell-${next++}`));
    if (next !== document.querySelectorAll(".bd-article div.cell[class*=cell-]").length) return say("It failed: this page and its notebook differ.");
    started = performance.now();
    panel.querySelector("[data-do=run]").disabled = true;
    panel.querySelector("[data-do=stop]").hidden = false;
    say("Loading Python …");
    worker ||= new Worker(new URL("worker.js", base));
    worker.onmessage = ({data}) => {
      if (data.what === "status") say(data.words);
      else if (data.what === "cell") replace(places[data.place], data.html);
      else if (data.what === "failed") finish(`It failed: ${data.words}`, true);
      else finish(`Done in ${((performance.now() - started) / 1000).toFixed(1)} s:
        ${data.cells - data.kept} of ${data.cells} cells ran here. ${data.kept ? "The others need packages that no browser has and keep" +
        " what is published, as" : "As published stay"} the numbers inside sentences.`, true);
    };
    worker.onerror = error => finish(`It failed: ${error.message}`);
    worker.postMessage({files, cells: sources});
  }

  function replace(cell, html) {
    if (!cell || !html) return;
    let output = cell.querySelector(".cell_output");
    if (!output) {
      output = document.createElement("div");
      output.className = "cell_output docutils container";
      cell.append(output);
    }
    output.innerHTML = `<div class="output text_html">${html}</div>`;
    cell.dataset.live = "yes";
  }

  function finish(words, alive = false) {
    if (!alive) {
      worker?.terminate();
      worker = undefined;
    }
    panel.querySelector("[data-do=run]").disabled = false;
    panel.querySelector("[data-do=stop]").hidden = true;
    say(words);
  }

  panel.querySelector("[data-do=open]").onclick = () =>
    open().catch(() => say("What it needs could not be loaded."));
})();
