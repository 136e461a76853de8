// Chart of PSNR over accepted frames, held-out and train, as SVG.
import { t } from "./words.js";

const SPACE = "http://www.w3.org/2000/svg";
const HEIGHT = 170;
const LEFT = 34, RIGHT = 10, TOP = 8, BOTTOM = 30;
const POINTS = 600;

const make = (name, attributes, text) => {
  const element = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
};

// Round tick values that divide [low, high] into about `count` parts.
export function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step) found.push(value);
  return found;
}

export class QualityChart {
  constructor(container) {
    this.container = container;
    this.points = [];
    this.svg = make("svg", { role: "img" });
    container.append(this.svg);
    new ResizeObserver(() => this.draw()).observe(container);
  }

  // Add a measurement in dB after `frames` accepted frames; null if unknown. Chunks add past measurements.
  add(frames, heldOut, train) {
    if (heldOut == null && train == null) return;
    this.points = this.points.filter((point) => point.frames !== frames);
    this.points.push({ frames, heldOut, train });
    this.points.sort((a, b) => a.frames - b.frames);
    // With many points, every second one of the older half is enough.
    if (this.points.length > POINTS) this.points = this.points.filter((_, i) => i % 2 || i > POINTS / 2);
    this.draw();
  }

  clear() {
    this.points = [];
    this.draw();
  }

  draw() {
    const width = this.container.clientWidth;
    this.svg.replaceChildren();
    this.container.classList.toggle("empty", this.points.length < 2);
    if (!width || this.points.length < 2) return;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.svg.setAttribute("height", HEIGHT);
    const values = this.points.flatMap(({ heldOut, train }) => [heldOut, train]).filter((value) => value != null);
    const first = this.points[0].frames, end = Math.max(this.points.at(-1).frames, first + 1);
    const low = Math.floor(Math.min(...values) - 0.5), high = Math.ceil(Math.max(...values) + 0.5);
    const x = (frames) => LEFT + ((frames - first) / (end - first)) * (width - LEFT - RIGHT);
    const y = (value) => TOP + ((high - value) / (high - low)) * (HEIGHT - TOP - BOTTOM);
    for (const value of ticks(low, high, 4)) {
      this.svg.append(make("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }));
      this.svg.append(make("text", { class: "tick", x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, Math.round(value * 10) / 10));
    }
    for (const frames of ticks(first, end, width / 60).filter(Number.isInteger)) {
      this.svg.append(make("text", { class: "tick", x: x(frames), y: HEIGHT - BOTTOM + 15, "text-anchor": "middle" }, frames));
    }
    this.svg.append(make("text", { class: "tick name", x: width - RIGHT, y: HEIGHT - 1, "text-anchor": "end" }, t("accepted frames")));
    this.svg.append(make("text", { class: "tick name", x: LEFT, y: HEIGHT - 1 }, t("PSNR in dB")));
    for (const kind of ["train", "heldOut"]) {
      const known = this.points.filter((point) => point[kind] != null);
      if (!known.length) continue;
      const path = known.map((point) => `${x(point.frames).toFixed(1)},${y(point[kind]).toFixed(1)}`).join(" ");
      this.svg.append(make("polyline", { class: `curve ${kind}`, points: path }));
      const last = known.at(-1);
      this.svg.append(make("circle", { class: `dot ${kind}`, cx: x(last.frames), cy: y(last[kind]), r: 3.5 }));
    }
    this.svg.setAttribute("aria-label", this.#description());
  }

  #description() {
    const last = this.points.at(-1);
    const format = (value) => (value == null ? t("not known") : t("{0} decibels", value.toFixed(1)));
    return t("PSNR after {0} accepted frames: held-out {1}, train {2}.", last.frames, format(last.heldOut), format(last.train));
  }
}
