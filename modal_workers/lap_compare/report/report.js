"use strict";
(() => {
  const data = JSON.parse(document.getElementById("comparison").textContent);
  const { lap, delta, error, speed, confidence } = data;
  const end = lap[lap.length - 1];
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const video = document.getElementById("overlay");
  const grades = (value) => (value >= data.good ? "good" : value >= data.fair ? "fair" : "poor");
  const signed = (value, digits) => {
    const text = Math.abs(value).toFixed(digits);
    return Number(text) === 0 ? text : (value > 0 ? "+" : "−") + text;
  };
  const clock = (seconds) => {
    const hundredths = Math.max(0, Math.round(seconds * 100));
    const two = (n) => String(n).padStart(2, "0");
    return `${Math.floor(hundredths / 6000)}:${two(Math.floor(hundredths / 100) % 60)}.${two(hundredths % 100)}`;
  };

  function decoded(text) {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
    const characters = atob(text), bytes = new Uint8Array(characters.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
    return bytes;
  }
  // The videos are embedded as base64 text. A blob plays and seeks in every browser, a data URL does not.
  for (const block of document.querySelectorAll("script[data-video]")) {
    const bytes = decoded(block.textContent.trim());
    const target = document.getElementById(block.dataset.video);
    block.remove();
    target.src = URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));
  }

  // -- values at a lap time
  function at(values, seconds) {
    let low = 0, high = lap.length - 1;
    if (seconds <= lap[0]) return values[0];
    if (seconds >= lap[high]) return values[high];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (lap[middle] <= seconds) low = middle; else high = middle;
    }
    const share = (seconds - lap[low]) / (lap[high] - lap[low] || 1);
    return values[low] + share * (values[high] - values[low]);
  }
  function figuresAt(seconds) {
    const gap = at(delta, seconds), side = Math.abs(gap) <= at(error, seconds) ? "level" : gap > 0 ? "behind" : "ahead";
    return { gap, side, error: at(error, seconds), speed: at(speed, seconds), match: grades(at(confidence, seconds)) };
  }
  function sentence(seconds) {
    const { gap, side, error: spread, speed: ratio, match } = figuresAt(seconds);
    return `${clock(seconds)}, B ${signed(gap, 2)} s ± ${spread.toFixed(2)} s, ${side}, speed ${(ratio * 100).toFixed(0)} %, match ${match}`;
  }

  // -- drawing
  const space = "http://www.w3.org/2000/svg";
  function add(parent, name, attributes, text) {
    const node = document.createElementNS(space, name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  }
  function steps(low, high, count) {
    const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw);
    const ticks = [];
    for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + 1e-9; value += step) ticks.push(value);
    return { ticks, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
  }
  const charts = [];

  class Chart {
    constructor(id, options) {
      this.box = document.getElementById(id);
      if (!this.box) return;
      Object.assign(this, { base: 0, scale: 1, pad: 0.08 }, options);
      this.svg = add(this.box, "svg", {
        role: "slider", tabindex: "0", "aria-label": this.label, "aria-valuemin": "0", "aria-valuemax": end.toFixed(2),
      });
      this.svg.addEventListener("pointermove", (event) => {
        hover(this.seconds(event));
        if (event.buttons & 1) seek(this.seconds(event));
      });
      this.svg.addEventListener("pointerleave", () => hover(null));
      this.svg.addEventListener("pointerdown", (event) => {
        if (event.button === 0) { this.svg.focus({ preventScroll: true }); seek(this.seconds(event)); }
      });
      this.svg.addEventListener("keydown", onKey);
      new ResizeObserver(() => this.draw()).observe(this.box);
      charts.push(this);
    }
    seconds(event) {
      const box = this.svg.getBoundingClientRect();
      return Math.min(end, Math.max(0, ((event.clientX - box.left - this.left) / (this.right - this.left)) * end));
    }
    x(seconds) { return this.left + ((this.right - this.left) * seconds) / end; }
    y(value) { return this.bottom - ((this.bottom - this.top) * (value * this.scale - this.low)) / (this.high - this.low); }
    path(values, shift) {
      let text = "";
      for (let i = 0; i < lap.length; i++) {
        text += `${i ? "L" : "M"}${this.x(lap[i]).toFixed(1)} ${this.y(values[i] + (shift ? shift * error[i] : 0)).toFixed(1)}`;
      }
      return text;
    }
    area(values, shift) {
      const back = lap.map((_, i) => lap.length - 1 - i);
      return this.path(values, shift) + back.map((i) => `L${this.x(lap[i]).toFixed(1)} ${this.y(values[i] - shift * error[i]).toFixed(1)}`).join("") + "Z";
    }
    range() {
      let low = this.base, high = this.base;
      for (const values of this.series) {
        for (let i = 0; i < values.length; i++) {
          const spread = this.band ? error[i] : 0;
          low = Math.min(low, (values[i] - spread) * this.scale);
          high = Math.max(high, (values[i] + spread) * this.scale);
        }
      }
      // Two equal laps must show a flat line, not the noise of their alignment at full height.
      const least = this.least || 0.05, missing = Math.max(0, least - (high - low)) / 2;
      const room = Math.max(least, high - low) * this.pad + missing;
      [this.low, this.high] = [low - room, high + room];
    }
    draw() {
      const width = this.box.clientWidth, height = this.box.clientHeight;
      if (!width || !height) return;
      this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      this.svg.replaceChildren();
      Object.assign(this, { left: 44, right: width - 10, top: this.tall ? 34 : 6, bottom: height - 22 });
      this.range();
      this.drawBackground(width);
      this.drawCurves();
      this.ghost = add(this.svg, "line", { class: "ghost", y1: this.top, y2: this.bottom, visibility: "hidden" });
      this.cursor = add(this.svg, "line", { class: "cursor", y1: this.top, y2: this.bottom });
      this.dots = this.series.map(() => add(this.svg, "circle", { class: "dot", r: 5 }));
      this.show(now);
    }
    drawBackground(width) {
      const { svg, left, right, top, bottom } = this;
      for (const mark of data.opportunities) {
        const x = this.x(mark.start), wide = this.x(mark.end) - x;
        add(svg, "rect", { class: `window ${mark.loser}`, x, y: top, width: wide, height: bottom - top });
        if (!this.tall) continue;
        add(svg, "rect", { class: `mark ${mark.loser}`, x, y: top - 5, width: wide, height: 4 });
        const name = wide > 110 ? `${mark.rank} · ${mark.loser.toUpperCase()} loses ${mark.lost.toFixed(2)} s` : String(mark.rank);
        add(svg, "text", { class: `mark-name ${mark.loser}`, x: x + wide / 2, y: top - 9, "text-anchor": "middle" }, name);
      }
      const rows = steps(this.low, this.high, this.tall ? 5 : 4);
      for (const value of rows.ticks) {
        const y = this.y(value / this.scale);
        add(svg, "line", { class: "grid", x1: left, x2: right, y1: y, y2: y });
        add(svg, "text", { class: "tick", x: left - 7, y: y + 4, "text-anchor": "end" }, value.toFixed(rows.digits).replace("-", "−"));
      }
      const columns = steps(0, end, Math.max(5, Math.min(10, width / 90)));
      for (const value of columns.ticks) {
        add(svg, "text", { class: "tick", x: this.x(value), y: bottom + 17, "text-anchor": "middle" }, value.toFixed(columns.digits) + (value ? "" : " s"));
      }
      for (const sector of data.sectors) {
        const x = this.x(sector.start), wide = this.x(sector.end) - x;
        if (sector.start > 0) add(svg, "line", { class: "cut", x1: x, x2: x, y1: this.tall ? 4 : top, y2: bottom });
        if (this.tall && wide > sector.name.length * 6.2 + 8) {
          add(svg, "text", { class: "name", x: x + 5, y: 12 }, sector.name);
        }
      }
      const zero = this.y(this.base / this.scale);
      add(svg, "line", { class: "zero", x1: left, x2: right, y1: zero, y2: zero });
    }
    drawCurves() {
      const { svg, left, right, top, bottom } = this;
      if (this.signed) {
        const zero = this.y(this.base / this.scale), values = this.series[0], id = this.box.id;
        const defs = add(svg, "defs", {});
        // the curve is drawn twice, clipped above and below the zero line, once in each colour
        const sides = this.flip ? ["ahead", "behind"] : ["behind", "ahead"];
        [[top - 40, zero], [zero, bottom + 40]].forEach(([from, to], i) => {
          add(add(defs, "clipPath", { id: `${id}-${i}` }), "rect", { x: left - 4, y: from, width: right - left + 8, height: Math.max(0, to - from) });
          const closed = `${this.path(values)}L${this.x(end)} ${zero}L${this.x(0)} ${zero}Z`;
          add(svg, "path", { class: sides[i] === "behind" ? "up" : "down", d: closed, "clip-path": `url(#${id}-${i})` });
        });
        if (this.band) add(svg, "path", { class: "band", d: this.area(values, 1) });
        this.drawConfidence(defs);
        sides.forEach((side, i) => {
          add(svg, "path", { class: this.band ? `curve ${side}` : "curve", d: this.path(values), "clip-path": `url(#${id}-${i})` });
        });
      } else {
        this.series.forEach((values, i) => add(svg, "path", { class: `curve ${this.classes[i]}`, d: this.path(values) }));
      }
    }
    drawConfidence(defs) {
      const id = `${this.box.id}-hatch`;
      const hatch = add(defs, "pattern", { id, width: 7, height: 7, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
      add(hatch, "line", { class: "hatch-line", x1: 0, x2: 0, y1: 0, y2: 7 });
      for (let i = 0; i < lap.length - 1;) {
        const grade = grades(confidence[i]);
        let to = i;
        while (to < lap.length - 1 && grades(confidence[to]) === grade) to++;
        const x = this.x(lap[i]), width = this.x(lap[to]) - x;
        if (this.tall) add(this.svg, "rect", { class: `confidence ${grade}`, x, y: this.bottom - 1, width, height: 3 });
        if (grade === "poor") add(this.svg, "rect", { fill: `url(#${id})`, x, y: this.top, width, height: this.bottom - this.top });
        i = to;
      }
    }
    show(seconds) {
      if (!this.cursor) return;
      const x = this.x(seconds);
      this.cursor.setAttribute("x1", x);
      this.cursor.setAttribute("x2", x);
      this.series.forEach((values, i) => {
        this.dots[i].setAttribute("cx", x);
        this.dots[i].setAttribute("cy", this.y(at(values, seconds)));
      });
      this.svg.setAttribute("aria-valuenow", seconds.toFixed(2));
      this.svg.setAttribute("aria-valuetext", sentence(seconds));
    }
    showGhost(seconds) {
      if (!this.ghost) return;
      this.ghost.setAttribute("visibility", seconds === null ? "hidden" : "visible");
      if (seconds === null) return;
      this.ghost.setAttribute("x1", this.x(seconds));
      this.ghost.setAttribute("x2", this.x(seconds));
    }
  }

  // -- one clock for the video and all curves
  let now = 0, hovered = null;
  const readout = document.getElementById("readout");
  function updateReadout() {
    const seconds = hovered === null ? now : hovered;
    const { gap, side, error: spread, speed: ratio, match } = figuresAt(seconds);
    const parts = [["b", clock(seconds), ""], ["b", `B ${signed(gap, 2)} s`, side], ["span", `± ${spread.toFixed(2)} s`, ""],
      ["span", side === "level" ? "within the error" : side, ""], ["span", `speed ${(ratio * 100).toFixed(0)} %`, ""], ["span", `match ${match}`, ""]];
    readout.replaceChildren(...parts.map(([name, text, kind]) => {
      const node = document.createElement(name);
      node.textContent = text;
      if (kind) node.className = kind;
      return node;
    }));
  }
  function show(seconds) {
    now = Math.min(end, Math.max(0, seconds));
    for (const chart of charts) chart.show(now);
    updateReadout();
  }
  function hover(seconds) {
    hovered = seconds;
    for (const chart of charts) chart.showGhost(seconds);
    updateReadout();
  }
  function seek(seconds) {
    show(seconds);
    // the middle of a frame, so that rounding never selects the frame before
    if (video) video.currentTime = (Math.round(now * data.rate) + 0.5) / data.rate;
  }
  function onKey(event) {
    const step = event.shiftKey ? 1 : 1 / data.rate;
    const goal = {
      ArrowRight: now + step, ArrowUp: now + step, ArrowLeft: now - step, ArrowDown: now - step,
      PageUp: now + end / 10, PageDown: now - end / 10, Home: 0, End: end,
    }[event.key];
    if (goal !== undefined) { seek(goal); event.preventDefault(); }
    if (event.key === " " && video) { if (video.paused) video.play(); else video.pause(); event.preventDefault(); }
  }
  function showFrom(seconds) {
    seek(seconds);
    document.querySelector(".stage").scrollIntoView({ block: "start", behavior: still ? "auto" : "smooth" });
    if (video && !still) video.play().catch(() => {});
  }

  new Chart("chart-delta", { label: "Delta of B to A along the lap", series: [delta], band: true, signed: true, tall: true });
  new Chart("chart-speed", { label: "Speed of B in percent of A", series: [speed], scale: 100, base: 100, signed: true, flip: true, least: 10 });
  if (data.flow_a) {
    new Chart("chart-flow", {
      label: "Motion in the picture, uncalibrated", series: [data.flow_a, data.flow_b], classes: ["line-a", "line-b"], least: 0.1,
    });
  }
  if (video) {
    const follow = () => { if (!video.seeking) show(Math.floor(video.currentTime * data.rate + 0.01) / data.rate); };
    const loop = () => { follow(); if (!video.paused && !video.ended) requestAnimationFrame(loop); };
    const play = document.getElementById("play"), stage = document.querySelector(".screen");
    const toggle = () => { if (video.paused) video.play(); else video.pause(); };
    const mark = () => {
      play.classList.toggle("playing", !video.paused);
      play.setAttribute("aria-label", video.paused ? "Play" : "Pause");
    };
    play.disabled = false;
    play.addEventListener("click", toggle);
    video.addEventListener("click", toggle);
    for (const name of ["play", "pause", "ended"]) video.addEventListener(name, mark);
    const rates = document.querySelectorAll("[data-rate]");
    for (const button of rates) {
      button.addEventListener("click", () => {
        video.playbackRate = Number(button.dataset.rate);
        for (const other of rates) other.setAttribute("aria-pressed", String(other === button));
      });
    }
    document.getElementById("full").addEventListener("click", () => {
      if (document.fullscreenElement) document.exitFullscreen();
      else if (stage.requestFullscreen) stage.requestFullscreen();
      else if (video.webkitEnterFullscreen) video.webkitEnterFullscreen();
    });
    document.addEventListener("keydown", (event) => { if (document.fullscreenElement) onKey(event); });
    video.addEventListener("play", loop);
    video.addEventListener("seeked", follow);
    video.addEventListener("timeupdate", follow);
  }
  for (const clip of document.querySelectorAll(".clip")) {
    const own = clip.querySelector("video");
    clip.addEventListener("click", () => { if (own.paused) own.play(); else own.pause(); });
    for (const name of ["play", "pause"]) own.addEventListener(name, () => clip.classList.toggle("playing", !own.paused));
  }
  for (const row of document.querySelectorAll("[data-seek]")) {
    row.addEventListener("click", (event) => { event.stopPropagation(); showFrom(Number(row.dataset.seek)); });
  }
  show(0);
})();
