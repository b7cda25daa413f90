/* Draws a calculator's curve with uPlot, which is loaded when a curve comes into sight, and lets a
   slider move the field that it runs over. The numbers are those of calculators.js. */
(() => {
  "use strict";
  if (typeof document === "undefined") return;

  const HEIGHT = 240, FONT = 12;
  const folder = new URL("../uplot/", document.currentScript.src);
  let loading;

  function load() {
    const style = document.createElement("link"), script = document.createElement("script");
    style.rel = "stylesheet";
    style.href = new URL("uPlot.min.css", folder);
    script.src = new URL("uPlot.iife.min.js", folder);
    document.head.append(style, script);
    return new Promise((done, failed) => [script.onload, script.onerror] = [done, failed]);
  }

  /* 1, 2 and 5 times powers of ten from low to high; the powers alone where those are many. */
  function ticks(low, high) {
    const all = [];
    for (let power = 1e-12; power <= high; power *= 10) {
      all.push(...[1, 2, 5].map((digit) => digit * power));
    }
    const inside = (values) => values.filter((tick) => tick >= 0.999 * low && tick <= 1.001 * high);
    return inside(inside(all).length > 7 ? all.filter((_, at) => at % 3 === 0) : all);
  }

  class Curve {
    constructor(calculator) {
      this.calculator = calculator;
      this.data = calculator.data.curve;
      this.points = this.data.points.map(sizewise.parse);
      this.field = calculator.data.fields.find((field) => field.name === this.data.field);
      this.unit = this.field.kind === "share" ? "%" : "count";
      this.box = calculator.box.querySelector("[data-curve]");
      this.place = this.box.querySelector(".sw-calc__plot");
      this.slider = this.box.querySelector("[data-slide]");
      this.slider.addEventListener("input", () => this.slide());
      new IntersectionObserver(([seen], watcher) => {
        if (!seen.isIntersecting) return;
        watcher.disconnect();
        (loading ||= load()).then(() => { this.ready = true; this.draw(); }, () => {});
      }, { rootMargin: "200px" }).observe(this.box);
      new ResizeObserver(() => this.draw()).observe(this.place);
      new MutationObserver(() => this.draw()).observe(
        document.documentElement, { attributeFilter: ["data-theme"] });
    }

    slide() {
      this.calculator.controls[this.field.name].value = this.data.points[this.slider.value];
      this.calculator.update();
    }

    /* The slider stands at the point that is nearest to what the field says. */
    update(given, scope) {
      const here = given[this.field.name], off = (at) => {
        const [low, high] = [here, this.points[at]].sort((a, b) => a - b);
        return high / low;
      };
      this.slider.value = this.points.reduce((best, _, at) => off(at) < off(best) ? at : best, 0);
      this.slider.setAttribute("aria-valuetext", this.said(here));
      [this.given, this.scope] = [given, scope];
      this.draw();
    }

    said(value) {
      return sizewise.written([value], this.unit);
    }

    /* What the drawing shows, in words. */
    words(values) {
      let at = 0;
      return this.data.lines.map((line) => {
        const ends = [0, this.points.length - 1].map((end) => sizewise.written(
          line.values.map((_, place) => values[at + place][end]), line.unit, line.missing));
        at += line.values.length;
        const [first, last] = [0, this.points.length - 1].map((end) => this.said(this.points[end]));
        return `${line.label}: ${ends[0]} at ${first}, ${ends[1]} at ${last}`;
      }).join("; ");
    }

    draw() {
      const width = this.place.clientWidth;
      if (!this.ready || !this.given || !width) return;
      const asked = JSON.stringify({ ...this.given, [this.field.name]: 0 });
      if (this.asked !== asked) {
        this.values = sizewise.curve(this.calculator.id, this.given);
        this.asked = asked;
      }
      this.place.setAttribute("aria-label", `${this.data.title}. ${this.words(this.values)}.`);
      this.place.replaceChildren();
      const known = this.values.flat().filter((value) => value > 0);
      if (!known.length) {
        this.place.textContent = this.data.lines[0].missing;
        return;
      }
      const colour = (name) => getComputedStyle(this.place).getPropertyValue(name).trim();
      const lines = this.data.lines.flatMap((line, place) => line.values.map(() => place));
      const colours = lines.map((place) => colour(["--sw-weights", "--sw-cache"][place]));
      const { unit } = this.data.lines[0], ink = getComputedStyle(this.place).color;
      const [low, high] = [Math.min(...known), Math.max(...known)];
      const axis = (splits, words, more) => ({
        splits, values: (_, all) => all.map(words), filter: (_, all) => all, stroke: ink,
        font: `${FONT}px ${getComputedStyle(this.place).fontFamily}`,
        grid: { stroke: colour("--sw-rule"), width: 1 }, ticks: { show: false }, ...more,
      });
      const mark = (plot) => {
        const x = this.given[this.field.name];
        if (x < this.points[0] || x > this.points.at(-1)) return;
        const pen = plot.ctx, names = this.data.lines.flatMap((line) => line.values);
        names.forEach((name, at) => {
          if (this.scope[name] == null) return;
          pen.beginPath();
          pen.arc(plot.valToPos(x, "x", true), plot.valToPos(this.scope[name], "y", true),
            4.5 * devicePixelRatio, 0, 7);
          pen.fillStyle = colours[at];
          pen.fill();
        });
      };
      new uPlot({
        width, height: HEIGHT, legend: { show: false }, cursor: { show: false },
        scales: {
          x: { time: false, distr: 3, range: [this.points[0], this.points.at(-1)] },
          y: { distr: 3, range: [low / 1.15, high * 1.15] },
        },
        axes: [
          axis(() => this.data.ticks.map(sizewise.parse), (value) => this.said(value)),
          axis(() => ticks(low / 1.15, high * 1.15),
            (value) => sizewise.written([value], unit), { size: 64 }),
        ],
        series: [{}, ...colours.map((stroke, at) => (
          { stroke, width: 2, points: { show: false }, dash: lines[at] ? [6, 4] : [] }))],
        bands: lines.flatMap((place, at) => place === lines[at + 1]
          ? [{ series: [at + 2, at + 1], fill: `${colours[at]}33` }] : []),
        hooks: { draw: [mark] },
        padding: [8, 28, 0, 0],
      }, [this.points, ...this.values], this.place);
    }
  }

  globalThis.sizewiseCurve = { Curve };
})();
