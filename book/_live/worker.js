// Python in a worker of its own: the page stays usable, and stopping it ends the worker.
"use strict";
importScripts("pyodide.js");

const tell = (what, more = {}) => postMessage({what, ...more});

async function start(files) {
  const python = await loadPyodide({indexURL: "./"});
  tell("status", {words: "Loading numpy, scipy, pandas and matplotlib …"});
  await python.loadPackage(files.packages, {messageCallback() {}});
  tell("status", {words: "Loading the library and its data …"});
  const archive = await (await fetch(files.archive)).arrayBuffer();
  python.unpackArchive(archive, "zip", {extractDir: "/book"});
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
    const python = await ready;
    const run = python.runPython("cells.run"), names = python.runPython("dict()");
    let kept = 0;
    for (const [place, source] of data.cells.entries()) {
      tell("status", {words: `Running cell ${place + 1} of ${data.cells.length} …`});
      try {
        tell("cell", {place, html: run(source, names)});
      } catch (error) {
        // What needs a package that no browser has, or the result of such a cell, stays as it is.
        const lacks = /ModuleNotFoundError/.test(error.message);
        if (!lacks && !(kept && /NameError/.test(error.message))) throw error;
        kept += 1;
      }
    }
    tell("done", {kept, cells: data.cells.length});
  } catch (error) {
    tell("failed", {words: String(error.message || error).trim().split("\n").pop()});
  }
};
