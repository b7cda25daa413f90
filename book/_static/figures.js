// A PNG of each figure: its title, the drawing in the page's colours, and the figure's address.
"use strict";
(() => {
  const SCALE = 3, WIDTH = 420, EDGE = 12;  // of the drawing, in CSS pixels

  async function png(figure) {
    const svg = figure.querySelector("svg"), box = svg.viewBox.baseVal;
    const height = WIDTH * box.height / box.width, style = getComputedStyle(figure);
    const copy = svg.cloneNode(true);
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    copy.setAttribute("width", SCALE * WIDTH);
    copy.setAttribute("height", SCALE * height);
    copy.style.cssText = `color: ${style.color}; font-family: ${style.fontFamily}`;
    const drawing = new Image();
    drawing.src = `data:image/svg+xml,${encodeURIComponent(new XMLSerializer().serializeToString(copy))}`;
    await drawing.decode();

    const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
    const bold = `600 15px ${style.fontFamily}`, lines = [""];
    pen.font = bold;
    for (const word of (figure.querySelector(".sw-figure__title")?.textContent || "").split(" ")) {
      const longer = `${lines.at(-1)} ${word}`.trim();
      pen.measureText(longer).width > WIDTH ? lines.push(word) : lines.splice(-1, 1, longer);
    }
    const top = EDGE + 20 * lines.length;
    canvas.width = SCALE * (WIDTH + 2 * EDGE);
    canvas.height = SCALE * (top + height + 2 * EDGE + 10);
    pen.scale(SCALE, SCALE);
    pen.fillStyle = getComputedStyle(document.body).backgroundColor;
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.fillStyle = style.color;
    pen.font = bold;
    lines.forEach((line, i) => pen.fillText(line, EDGE, EDGE + 14 + 20 * i));
    pen.drawImage(drawing, EDGE, top, WIDTH, height);
    pen.font = `10px ${style.fontFamily}`;
    pen.fillText(figure.querySelector(".sw-figure__address").textContent, EDGE, top + height + EDGE + 8);
    return canvas.toDataURL("image/png");
  }

  for (const figure of document.querySelectorAll(".sw-figure:has(.sw-figure__address)")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "PNG";
    button.addEventListener("click", async () => {
      const link = document.createElement("a");
      link.download = `${figure.id.replace(/^fig-/, "")}.png`;
      link.href = await png(figure);
      link.click();
    });
    figure.querySelector(".sw-figure__number").after(button);
  }
})();
