// Definitions beside their terms: moved near the term, and closed by Escape (the style sheet shows
// them when a term is pointed at or focused, with or without this script).
"use strict";
(() => {
  const terms = [...document.querySelectorAll(".sw-term")];

  function place(term) {
    term.classList.remove("sw-closed");
    const tip = term.querySelector(".sw-tip");
    const frame = tip.offsetParent;
    if (!frame) return;  // not shown
    const from = frame.getBoundingClientRect();
    const wish = term.getBoundingClientRect().left - from.left;
    tip.style.left = `${Math.max(0, Math.min(wish, from.width - tip.offsetWidth))}px`;
  }

  for (const term of terms)
    for (const happened of ["mouseenter", "focusin"])
      term.addEventListener(happened, () => place(term));
  addEventListener("keydown", event => {
    if (event.key === "Escape") for (const term of terms) term.classList.add("sw-closed");
  });
})();
