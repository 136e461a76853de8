"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const tracks = data.tracks, players = data.players, end = data.duration;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const video = document.getElementById("video");
  const hasTracks = Boolean(tracks.position) && players.length > 0;
  document.body.classList.toggle("no-tracks", !hasTracks);
  document.body.classList.toggle("no-video", !video);

  // -- the embedded bytes
  function decoded(text) {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
    const characters = atob(text), bytes = new Uint8Array(characters.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
    return bytes;
  }
  const numbers = (text, Kind) => {
    if (!text) return null;
    const bytes = decoded(text);
    return new Kind(bytes.buffer, bytes.byteOffset, bytes.byteLength / Kind.BYTES_PER_ELEMENT);
  };
  const times = numbers(tracks.time, Uint32Array), count = tracks.count;
  const position = numbers(tracks.position, Int16Array), speed = numbers(tracks.speed, Int16Array);
  const box = numbers(tracks.box, Int16Array), keypoints = numbers(tracks.keypoints, Int16Array);
  const keypointConfidence = numbers(tracks.keypointConfidence, Uint8Array);
  const shuttle = numbers(tracks.shuttle, Int16Array), shuttleConfidence = numbers(tracks.shuttleConfidence, Uint8Array);
  const block = document.querySelector("script[data-video]");
  if (block && video) {
    const bytes = decoded(block.textContent.trim());
    block.remove();
    // The video is embedded as base64 text. A blob plays and seeks in every browser, a data URL does not.
    video.src = URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));
  }

  // -- values at a time: of the sample before and the one after, mixed
  let low = 0, high = 0, share = 0;
  function locate(seconds) {
    const now = seconds * 1000;
    let from = 0, to = count - 1;
    while (to - from > 1) {
      const middle = (from + to) >> 1;
      if (times[middle] <= now) from = middle; else to = middle;
    }
    [low, high] = [from, Math.min(to, count - 1)];
    const gap = times[high] - times[low];
    share = gap > 0 && gap < 400 ? Math.min(1, Math.max(0, (now - times[low]) / gap)) : 0;
  }
  const value = (array, size, owner, index, steps) => {
    const a = array[(owner * count + low) * size + index], b = array[(owner * count + high) * size + index];
    if (a === data.unknown) return share > 0.5 && b !== data.unknown ? b / steps : NaN;
    return (b === data.unknown ? a : a + share * (b - a)) / steps;
  };
  const placeOf = (player) => [value(position, 2, player, 0, data.mSteps), value(position, 2, player, 1, data.mSteps)];
  const speedOf = (player) => value(speed, 1, player, 0, data.mSteps);
  for (const segment of data.segments) if (segment.views) segment.views.values = numbers(segment.views.values, Float32Array);
  // A camera that moves has a view of its own for each sample.
  function courtOf(segment) {
    if (!segment.views) return segment.court;
    const { first, values } = segment.views, at = 9 * Math.min(values.length / 9 - 1, Math.max(0, low - first));
    return [0, 3, 6].map((row) => [values[at + row], values[at + row + 1], values[at + row + 2]]);
  }
  const segmentAt = (seconds) => data.segments.find((one) => seconds >= one.start - 1e-3 && seconds <= one.end + 0.05);
  const rallyAt = (seconds) => data.rallies.find((one) => seconds >= one.start && seconds <= one.end);
  const clock = (seconds) => {
    const tenths = Math.max(0, Math.round(seconds * 10)), minutes = Math.floor(tenths / 600);
    const rest = `${String(Math.floor(tenths / 10) % 60).padStart(2, "0")}.${tenths % 10}`;
    return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
  };

  // -- the overlay on the picture
  const overlay = document.getElementById("overlay"), pen = overlay.getContext("2d");
  const LIMBS = [[5, 6], [5, 7], [7, 9], [6, 8], [8, 10], [5, 11], [6, 12], [11, 12], [11, 13], [13, 15], [12, 14], [14, 16]];
  const TRAIL_MS = 1500, SHUTTLE_MS = 450;
  let overlayOn = true;
  overlay.width = data.width * 2;
  overlay.height = data.height * 2;
  function onPicture(court, x, y) {
    const w = court[2][0] * x + court[2][1] * y + court[2][2];
    if (w <= 0) return [NaN, NaN];
    return [(court[0][0] * x + court[0][1] * y + court[0][2]) / w, (court[1][0] * x + court[1][1] * y + court[1][2]) / w];
  }
  function trail(array, owner, steps, spanMs, map) {
    const points = [];
    for (let i = low; i >= 0 && times[low] - times[i] <= spanMs; i--) {
      const at = (owner * count + i) * 2;
      points.push(array[at] === data.unknown ? [NaN, NaN] : map(array[at] / steps, array[at + 1] / steps));
    }
    return points;
  }
  function drawTrail(context, points, colour, width) {
    context.strokeStyle = colour;
    context.lineCap = "round";
    for (let i = 0; i + 1 < points.length; i++) {
      const [a, b] = [points[i], points[i + 1]];
      if (Number.isNaN(a[0] + b[0])) continue;
      const age = i / points.length;
      context.globalAlpha = 0.9 * (1 - age);
      context.lineWidth = width * (1 - 0.7 * age);
      context.beginPath();
      context.moveTo(...a);
      context.lineTo(...b);
      context.stroke();
    }
    context.globalAlpha = 1;
  }
  function outlined(draw, colour, width) {
    pen.lineCap = pen.lineJoin = "round";
    pen.strokeStyle = "rgba(10, 12, 16, .85)";
    pen.lineWidth = width + 1.6;
    draw();
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    draw();
  }
  // Words are 9 to 13 pixels high on the screen, however large the picture is there; lines grow with them.
  function unitOf() {
    const scale = Math.min(overlay.clientWidth / data.width, overlay.clientHeight / data.height) || 1;
    return (9 + 4 * Math.min(1, (scale * data.width) / 700)) / (10.5 * scale);
  }
  function drawOverlay(seconds) {
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, overlay.width, overlay.height);
    if (!overlayOn || !video) return;
    pen.setTransform(2, 0, 0, 2, 1, 1);
    const segment = segmentAt(seconds);
    const unit = unitOf();
    if (!segment || !segment.court) {
      chip(`Not analysed: ${segment ? segment.reason : "no court"}`, 8, data.height - 12, "rgb(168, 178, 194)", "left", unit);
    } else if (hasTracks) {
      const court = courtOf(segment);
      for (let i = 0; i < players.length; i++) drawGround(court, i, unit);
      for (let i = 0; i < players.length; i++) drawFigure(i, unit);
    }
    if (shuttle) drawShuttle(unit);
  }
  function drawGround(court, player, unit) {
    const colour = players[player].colour, [x, y] = placeOf(player);
    drawTrail(pen, trail(position, player, data.mSteps, TRAIL_MS, (a, b) => onPicture(court, a, b)), colour, 3 * unit);
    if (Number.isNaN(x)) return;
    pen.beginPath();
    for (let i = 0; i <= 32; i++) {
      const angle = (i / 16) * Math.PI;
      const [px, py] = onPicture(court, x + 0.45 * Math.cos(angle), y + 0.45 * Math.sin(angle));
      if (i) pen.lineTo(px, py); else pen.moveTo(px, py);
    }
    pen.globalAlpha = 0.32;
    pen.fillStyle = colour;
    pen.fill();
    pen.globalAlpha = 1;
    outlined(() => pen.stroke(), colour, 1.4 * unit);
  }
  function drawFigure(player, unit) {
    const colour = players[player].colour;
    const edges = [0, 1, 2, 3].map((i) => value(box, 4, player, i, data.pxSteps));
    let drawn = false;
    if (keypoints) {
      const joint = (i) => [value(keypoints, 34, player, 2 * i, data.pxSteps), value(keypoints, 34, player, 2 * i + 1, data.pxSteps)];
      const seen = (i) => keypointConfidence[(player * count + low) * 17 + i] >= 77 && !Number.isNaN(joint(i)[0]);
      outlined(() => {
        pen.beginPath();
        for (const [a, b] of LIMBS) {
          if (!seen(a) || !seen(b)) continue;
          pen.moveTo(...joint(a));
          pen.lineTo(...joint(b));
          drawn = true;
        }
        if (drawn && seen(0) && seen(5) && seen(6)) {
          const [nx, ny] = joint(0), [ax, ay] = joint(5), [bx, by] = joint(6);
          const radius = 0.42 * Math.hypot(nx - (ax + bx) / 2, ny - (ay + by) / 2);
          pen.moveTo(nx + radius, ny);
          pen.arc(nx, ny, radius, 0, 2 * Math.PI);
        }
        pen.stroke();
      }, colour, 1.9 * unit);
    }
    if (edges.some(Number.isNaN)) return;
    const [left, top, right, bottom] = edges;
    if (!drawn) {
      const reach = 0.24 * Math.min(right - left, bottom - top);
      outlined(() => {
        pen.beginPath();
        for (const [x, dx] of [[left, reach], [right, -reach]]) {
          for (const [y, dy] of [[top, reach], [bottom, -reach]]) {
            pen.moveTo(x, y + dy);
            pen.lineTo(x, y);
            pen.lineTo(x + dx, y);
          }
        }
        pen.stroke();
      }, colour, 1.9 * unit);
    }
    const metres = speedOf(player);
    const text = Number.isNaN(metres) ? players[player].label : `${players[player].label}  ${metres.toFixed(1)} m/s`;
    chip(text, (left + right) / 2, Math.max(14 * unit, top - 6 * unit), "#fff", "center", unit, colour);
  }
  function chip(text, x, y, ink, align, unit, dot) {
    const size = 10.5 * unit, pad = 5 * unit;
    pen.font = `650 ${size}px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif`;
    const most = data.width - 16 * unit;
    while (pen.measureText(text).width > most && text.length > 2) text = `${text.slice(0, -2)}…`;
    const wide = pen.measureText(text).width + 2 * pad + (dot ? 10 * unit : 0);
    const left = Math.max(3, Math.min(data.width - wide - 3, align === "center" ? x - wide / 2 : x));
    pen.fillStyle = "rgba(13, 17, 24, .76)";
    pen.beginPath();
    pen.roundRect(left, y - size - 0.5 * unit, wide, size + 5 * unit, 5 * unit);
    pen.fill();
    if (dot) {
      pen.fillStyle = dot;
      pen.beginPath();
      pen.arc(left + pad + 3 * unit, y - size / 2 + 2 * unit, 3 * unit, 0, 2 * Math.PI);
      pen.fill();
    }
    pen.fillStyle = ink;
    pen.textAlign = "left";
    pen.fillText(text, left + pad + (dot ? 10 * unit : 0), y);
  }
  function drawShuttle(unit) {
    drawTrail(pen, trail(shuttle, 0, data.pxSteps, SHUTTLE_MS, (a, b) => [a, b]), data.shuttleColour, 2.4 * unit);
    const [x, y] = [value(shuttle, 2, 0, 0, data.pxSteps), value(shuttle, 2, 0, 1, data.pxSteps)];
    if (Number.isNaN(x)) return;
    // The arc is the confidence: a full ring is 1.
    const sure = shuttleConfidence[low] / 255;
    outlined(() => {
      pen.beginPath();
      pen.arc(x, y, 5 * unit, -Math.PI / 2, -Math.PI / 2 + 2 * Math.PI * sure);
      pen.stroke();
    }, data.shuttleColour, 1.5 * unit);
  }

  // -- the court from above
  const LENGTH = 13.4, WIDTH = 6.1, NET = 6.7, MARGIN = 1;
  const LINES = [0, 0.76, NET - 1.98, NET + 1.98, LENGTH - 0.76, LENGTH].map((y) => [0, y, WIDTH, y])
    .concat([0, 0.46, WIDTH - 0.46, WIDTH].map((x) => [x, 0, x, LENGTH]), [[WIDTH / 2, 0, WIDTH / 2, NET - 1.98], [WIDTH / 2, NET + 1.98, WIDTH / 2, LENGTH]]);
  function drawCourt(context, ground) {
    if (ground) {
      context.fillStyle = ground;
      context.fillRect(0, 0, WIDTH, LENGTH);
    }
    context.strokeStyle = "rgba(214, 228, 226, .8)";
    context.lineWidth = 0.06;
    context.lineCap = "butt";
    context.beginPath();
    for (const [ax, ay, bx, by] of LINES) {
      context.moveTo(ax, ay);
      context.lineTo(bx, by);
    }
    context.stroke();
    context.strokeStyle = "#f4f7fb";
    context.lineWidth = 0.12;
    context.beginPath();
    context.moveTo(-0.3, NET);
    context.lineTo(WIDTH + 0.3, NET);
    context.stroke();
  }
  const mini = document.getElementById("mini"), small = mini.getContext("2d"), SCALE = 56;
  mini.width = (WIDTH + 2 * MARGIN) * SCALE;
  mini.height = (LENGTH + 2 * MARGIN) * SCALE;
  function drawMini(seconds) {
    if (!hasTracks) return;
    small.setTransform(1, 0, 0, 1, 0, 0);
    small.clearRect(0, 0, mini.width, mini.height);
    small.setTransform(SCALE, 0, 0, SCALE, MARGIN * SCALE, MARGIN * SCALE);
    drawCourt(small, "#183a34");
    players.forEach((player, i) => drawTrail(small, trail(position, i, data.mSteps, TRAIL_MS, (a, b) => [a, b]), player.colour, 0.26));
    const rally = rallyAt(seconds);
    for (const hit of rally ? rally.hits : []) {
      const age = (seconds - hit.time) / 0.45;
      if (hit.player === null || age < 0 || age > 1) continue;
      const [x, y] = placeOf(hit.player);
      small.strokeStyle = `rgba(255, 255, 255, ${1 - age})`;
      small.lineWidth = 0.07;
      small.beginPath();
      small.arc(x, y, 0.5 + 0.6 * age, 0, 2 * Math.PI);
      small.stroke();
    }
    small.textAlign = "center";
    small.textBaseline = "middle";
    players.forEach((player, i) => {
      const [x, y] = placeOf(i);
      if (Number.isNaN(x)) return;
      small.beginPath();
      small.arc(x, y, 0.44, 0, 2 * Math.PI);
      small.fillStyle = player.colour;
      small.fill();
      small.strokeStyle = "#0a0c10";
      small.lineWidth = 0.1;
      small.stroke();
      small.fillStyle = "#0a0c10";
      small.font = "700 0.46px system-ui, sans-serif";
      small.fillText(player.label.slice(1), x, y + 0.03);
    });
  }

  // -- heat maps: the brighter, the longer
  const HEAT = [[24, 53, 47], [30, 84, 92], [52, 128, 120], [140, 178, 88], [248, 200, 72], [255, 122, 60], [255, 244, 214]];
  function heatColour(level) {
    const place = level * (HEAT.length - 1), i = Math.min(HEAT.length - 2, Math.floor(place)), part = place - i;
    return HEAT[i].map((channel, n) => Math.round(channel + part * (HEAT[i + 1][n] - channel)));
  }
  document.querySelectorAll("canvas.heat").forEach((canvas) => {
    const { rows, columns, cell, margin, maps } = data.heat, levels = numbers(maps[Number(canvas.dataset.player)], Uint8Array);
    const cells = document.createElement("canvas");
    [cells.width, cells.height] = [columns, rows];
    const context = cells.getContext("2d"), image = context.createImageData(columns, rows);
    levels.forEach((level, i) => image.data.set([...heatColour(level / 255), 255], 4 * i));
    context.putImageData(image, 0, 0);
    const scale = 40, sheet = canvas.getContext("2d");
    canvas.width = (WIDTH + 2 * MARGIN) * scale;
    canvas.height = (LENGTH + 2 * MARGIN) * scale;
    sheet.setTransform(scale, 0, 0, scale, MARGIN * scale, MARGIN * scale);
    sheet.imageSmoothingQuality = "high";
    sheet.drawImage(cells, -margin, -margin, columns * cell, rows * cell);
    drawCourt(sheet, null);
  });

  // -- drawing of curves
  const space = "http://www.w3.org/2000/svg";
  function add(parent, name, attributes, text) {
    const node = document.createElementNS(space, name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  }
  function steps(from, to, wanted) {
    const raw = (to - from) / wanted, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw);
    const ticks = [];
    for (let at = Math.ceil(from / step - 1e-9) * step; at <= to + 1e-9; at += step) ticks.push(at);
    return ticks;
  }
  const timeTick = (seconds) => {
    const whole = Math.round(seconds), minutes = Math.floor(whole / 60);
    return end < 90 ? `${Number(seconds.toFixed(1))} s` : `${minutes}:${String(whole % 60).padStart(2, "0")}`;
  };

  const timeline = document.getElementById("timeline");
  const LEFT = 34, RIGHT = 12;
  let timelineParts = null;
  function drawTimeline() {
    const width = timeline.clientWidth, height = 26;
    if (!width) return;
    timeline.replaceChildren();
    const svg = add(timeline, "svg", { viewBox: `0 0 ${width} 46`, role: "group", "aria-label": "Timeline of rallies" });
    const x = (seconds) => LEFT + ((width - LEFT - RIGHT) * seconds) / end;
    const hatch = add(add(svg, "defs", {}), "pattern", { id: "hatch", width: 7, height: 7, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
    add(hatch, "line", { class: "hatch-line", x1: 0, x2: 0, y1: 0, y2: 7 });
    const ground = add(svg, "rect", { class: "ground", x: LEFT, y: 0, width: width - LEFT - RIGHT, height, rx: 6 });
    for (const segment of data.segments) {
      if (segment.court) continue;
      const part = add(svg, "rect", { class: "out", x: x(segment.start), y: 0, width: Math.max(1, x(segment.end) - x(segment.start)), height });
      add(part, "title", {}, `Not analysed: ${segment.reason}`);
    }
    const marks = data.rallies.map((rally) => {
      const wide = Math.max(2, x(rally.end) - x(rally.start));
      const label = `Rally ${rally.number}, ${clock(rally.start)}, ${(rally.end - rally.start).toFixed(1)} s`;
      const mark = add(svg, "rect", { class: "rally", x: x(rally.start), y: 0, width: wide, height, rx: Math.min(5, wide / 2), role: "button", tabindex: "0", "aria-label": label });
      add(mark, "title", {}, label);
      mark.addEventListener("click", (event) => { event.stopPropagation(); playFrom(rally.start); });
      mark.addEventListener("keydown", (event) => { if (event.key === "Enter") playFrom(rally.start); });
      if (wide > 16) add(svg, "text", { class: "number", x: x(rally.start) + wide / 2, y: 17, "text-anchor": "middle" }, rally.number);
      return mark;
    });
    for (const tick of steps(0, end, Math.max(3, Math.min(10, width / 90)))) {
      add(svg, "text", { class: "tick", x: x(tick), y: 42, "text-anchor": "middle" }, timeTick(tick));
    }
    const cursor = add(svg, "line", { class: "cursor", y1: -3, y2: height + 3 });
    const move = (event) => seek(((event.clientX - svg.getBoundingClientRect().left - LEFT) / (width - LEFT - RIGHT)) * end);
    ground.addEventListener("pointerdown", move);
    ground.addEventListener("pointermove", (event) => { if (event.buttons & 1) move(event); });
    timelineParts = { x, cursor, marks };
  }

  // Of a short video the whole curve; of a long one the minute around the present.
  const chart = document.getElementById("chart"), WINDOW_S = 60, WHOLE_S = 120;
  let shown = null;
  function windowAt(seconds) {
    if (end <= WHOLE_S) return [0, end];
    const from = Math.max(0, Math.min(end - WINDOW_S, Math.floor(seconds / (WINDOW_S / 2)) * (WINDOW_S / 2) - WINDOW_S / 4));
    return [from, from + WINDOW_S];
  }
  function drawChart(seconds) {
    if (!chart || !chart.clientWidth) return;
    const [from, to] = windowAt(seconds), width = chart.clientWidth, height = chart.clientHeight;
    chart.replaceChildren();
    const left = LEFT, right = width - RIGHT, top = 8, bottom = height - 20;
    const svg = add(chart, "svg", { viewBox: `0 0 ${width} ${height}`, role: "slider", tabindex: "0", "aria-label": "Time in the match", "aria-valuemin": "0", "aria-valuemax": end.toFixed(1) });
    const first = Math.max(0, times.findIndex((time) => time >= from * 1000 - 400));
    let last = first;
    while (last < count - 1 && times[last] <= to * 1000) last++;
    let most = 4;
    for (let p = 0; p < players.length; p++) for (let i = first; i <= last; i++) most = Math.max(most, speed[p * count + i] / data.mSteps);
    const x = (at) => left + ((right - left) * (at - from)) / (to - from), y = (metres) => bottom - ((bottom - top) * metres) / (most * 1.06);
    for (const rally of data.rallies) {
      if (rally.end < from || rally.start > to) continue;
      add(svg, "rect", { class: "window", x: Math.max(left, x(rally.start)), y: top, width: Math.max(0, Math.min(right, x(rally.end)) - Math.max(left, x(rally.start))), height: bottom - top });
    }
    for (const tick of steps(0, most, 4)) {
      add(svg, "line", { class: "grid", x1: left, x2: right, y1: y(tick), y2: y(tick) });
      add(svg, "text", { class: "tick", x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, String(Number(tick.toFixed(1))));
    }
    for (const tick of steps(from, to, Math.max(4, Math.min(10, width / 90)))) {
      add(svg, "text", { class: "tick", x: x(tick), y: bottom + 16, "text-anchor": "middle" }, timeTick(tick));
    }
    const every = Math.max(1, Math.floor((last - first) / Math.max(300, 1.5 * width)));
    for (let p = 0; p < players.length; p++) {
      let path = "", broken = true;
      for (let i = first; i <= last; i += every) {
        const metres = speed[p * count + i];
        if (metres === data.unknown) { broken = true; continue; }
        path += `${broken ? "M" : "L"}${x(times[i] / 1000).toFixed(1)} ${y(metres / data.mSteps).toFixed(1)}`;
        broken = false;
      }
      add(svg, "path", { class: `curve p${p}`, d: path });
    }
    for (const rally of data.rallies) {
      for (const hit of rally.hits) {
        if (hit.time >= from && hit.time <= to) add(svg, "circle", { class: hit.player === null ? "hit" : `hit p${hit.player}`, cx: x(hit.time), cy: bottom - 4, r: 3 });
      }
    }
    const cursor = add(svg, "line", { class: "cursor", y1: top, y2: bottom });
    const dots = players.map((_, p) => add(svg, "circle", { class: `dot p${p}`, r: 5 }));
    const at = (event) => from + ((event.clientX - svg.getBoundingClientRect().left - left) / (right - left)) * (to - from);
    svg.addEventListener("pointerdown", (event) => { if (event.button === 0) { svg.focus({ preventScroll: true }); seek(at(event)); } });
    svg.addEventListener("pointermove", (event) => { if (event.buttons & 1) seek(at(event)); });
    shown = { from, x, y, svg, cursor, dots };
  }
  function showOnCharts(seconds) {
    const rally = rallyAt(seconds);
    if (timelineParts) {
      const at = timelineParts.x(seconds);
      timelineParts.cursor.setAttribute("x1", at);
      timelineParts.cursor.setAttribute("x2", at);
      timelineParts.marks.forEach((mark, i) => mark.classList.toggle("now", data.rallies[i] === rally));
    }
    for (const row of document.querySelectorAll("tr[data-rally]")) row.classList.toggle("now", rally && row.dataset.rally === String(rally.number));
    if (!hasTracks || !chart) return;
    if (!shown || windowAt(seconds)[0] !== shown.from) drawChart(seconds);
    if (!shown) return;
    shown.cursor.setAttribute("x1", shown.x(seconds));
    shown.cursor.setAttribute("x2", shown.x(seconds));
    shown.dots.forEach((dot, p) => {
      const metres = speedOf(p);
      dot.setAttribute("visibility", Number.isNaN(metres) ? "hidden" : "visible");
      if (Number.isNaN(metres)) return;
      dot.setAttribute("cx", shown.x(seconds));
      dot.setAttribute("cy", shown.y(metres));
    });
    shown.svg.setAttribute("aria-valuenow", seconds.toFixed(1));
    shown.svg.setAttribute("aria-valuetext", document.getElementById("readout").textContent);
  }

  // -- one clock for the video, the overlay, the court and the curves
  let now = 0;
  const readout = document.getElementById("readout");
  function updateReadout() {
    const rally = rallyAt(now), parts = [["b", clock(now), ""]];
    if (data.rallies.length) parts.push(["span", rally ? `Rally ${rally.number}` : "between rallies", ""]);
    if (hasTracks) {
      players.forEach((player, i) => {
        const metres = speedOf(i);
        parts.push(["span", Number.isNaN(metres) ? `${player.label} –` : `${player.label} ${metres.toFixed(1)} m/s`, `p${i}`]);
      });
    }
    readout.replaceChildren(...parts.map(([name, text, kind]) => {
      const node = document.createElement(name);
      if (kind) {
        const dot = document.createElement("i");
        dot.className = `mine ${kind}`;
        node.append(dot);
      }
      node.append(text);
      return node;
    }));
  }
  function show(seconds) {
    now = Math.min(end, Math.max(0, seconds));
    locate(now);
    drawOverlay(now);
    drawMini(now);
    updateReadout();
    showOnCharts(now);
  }
  // Without an embedded video the court from above plays alone.
  let playing = false, rate = 1, before = null;
  const isPlaying = () => (video ? !video.paused && !video.ended : playing);
  function start() {
    if (video) { video.play().catch(() => {}); return; }
    playing = true;
    before = null;
    requestAnimationFrame(tick);
    mark();
  }
  function stop() {
    if (video) { video.pause(); return; }
    playing = false;
    mark();
  }
  function tick(stamp) {
    if (!playing) return;
    if (before !== null) show(now + (rate * (stamp - before)) / 1000);
    before = stamp;
    if (now >= end) stop(); else requestAnimationFrame(tick);
  }
  function seek(seconds) {
    const goal = Math.min(end, Math.max(0, seconds));
    show(goal);
    if (video) video.currentTime = goal + 0.001;
  }
  function playFrom(seconds) {
    seek(Math.max(0, seconds - 0.3));
    document.querySelector(".stage").scrollIntoView({ block: "start", behavior: still ? "auto" : "smooth" });
    if (!still) start();
  }
  const play = document.getElementById("play"), stage = document.querySelector(".screen"), toggleButton = document.getElementById("switch");
  function mark() {
    play.classList.toggle("playing", isPlaying());
    play.setAttribute("aria-label", isPlaying() ? "Pause" : "Play");
  }
  const toggle = () => { if (isPlaying()) stop(); else start(); };
  function switchOverlay() {
    overlayOn = !overlayOn;
    toggleButton.setAttribute("aria-pressed", String(overlayOn));
    drawOverlay(now);
  }
  play.disabled = false;
  play.addEventListener("click", toggle);
  toggleButton.addEventListener("click", switchOverlay);
  if (video) {
    video.addEventListener("click", toggle);
    for (const name of ["play", "pause", "ended"]) video.addEventListener(name, mark);
    if (video.requestVideoFrameCallback) {
      const onFrame = (_, meta) => { show(meta.mediaTime); video.requestVideoFrameCallback(onFrame); };
      video.requestVideoFrameCallback(onFrame);
    } else {
      const loop = () => { if (!video.seeking) show(video.currentTime); if (isPlaying()) requestAnimationFrame(loop); };
      for (const name of ["play", "seeked", "timeupdate"]) video.addEventListener(name, loop);
    }
  }
  const rates = document.querySelectorAll("[data-rate]");
  for (const button of rates) {
    button.addEventListener("click", () => {
      rate = Number(button.dataset.rate);
      if (video) video.playbackRate = rate;
      for (const other of rates) other.setAttribute("aria-pressed", String(other === button));
    });
  }
  document.getElementById("full").addEventListener("click", () => {
    if (document.fullscreenElement) document.exitFullscreen(); else if (stage.requestFullscreen) stage.requestFullscreen().catch(() => {});
  });
  for (const node of document.querySelectorAll("[data-seek]")) {
    node.addEventListener("click", (event) => { event.stopPropagation(); playFrom(Number(node.dataset.seek)); });
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const step = event.shiftKey ? 1 : (times[high] - times[low]) / 1000 || 1 / 30;
    const goal = { ArrowRight: now + step, ArrowLeft: now - step, Home: 0, End: end }[event.key];
    if (goal !== undefined) { seek(goal); event.preventDefault(); }
    if (event.key === "o" || event.key === "O") switchOverlay();
    if (event.key === " " && !event.target.closest("button, [role=button]")) { toggle(); event.preventDefault(); }
  });
  new ResizeObserver(() => { drawTimeline(); shown = null; show(now); }).observe(timeline);
  drawTimeline();
  show(0);
})();
