// Python in a worker of its own: the page stays usable, and stopping it ends the worker.
"use strict";
importScripts("pyodide.js");

const tell = (what, more = {}) => postMessage({what, ...more});

async function start(files) {
  const archive = fetch(files.archive).then(answer => answer.arrayBuffer());
  // What nearly every chapter needs comes while the interpreter starts; the rest when it is missed.
  const python = await loadPyodide({indexURL: "./", packages: files.first});
  python.unpackArchive(await archive, "zip", {extractDir: "/book"});
  python.runPython(`
import os, sys
sys.path.insert(0, "/book/book")
os.environ.update(SIZEWISE_HOME="/book", MPLBACKEND="svg")
os.makedirs("/book/chapters", exist_ok=True)
os.chdir("/book/chapters")
import cells
cells.install()
`);
  return python;
}

let ready;
onmessage = async ({data}) => {
  try {
    ready ||= start(data.files);
    if (!data.cells) return;  // asked to load alone, before Run
    const python = await ready;
    const run = python.runPython("cells.run"), names = python.runPython("dict()");
    let kept = 0;
    const missed = new Set(data.files.packages.filter(name => !data.files.first.includes(name)));
    for (const [place, source] of data.cells.entries()) {
      tell("status", {words: `Running cell ${place + 1} of ${data.cells.length} …`});
      for (let again = true; again;) {
        again = false;
        try {
          tell("cell", {place, html: run(source, names)});
        } catch (error) {
          const name = /ModuleNotFoundError: No module named '(\w+)/.exec(error.message)?.[1];
          again = missed.delete(name);
          if (again) await python.loadPackage(name, {messageCallback() {}});
          // What needs a package that no browser has, or the result of such a cell, stays.
          else if (name || (kept && /NameError/.test(error.message))) kept += 1;
          else throw error;
        }
      }
    }
    tell("done", {kept, cells: data.cells.length});
  } catch (error) {
    tell("failed", {words: String(error.message || error).trim().split("\n").pop()});
  }
};
