"use strict";
// Turntable: frames on rings, encoded inside the page, decoded shortly before they are shown.
(() => {
  const told = JSON.parse(document.getElementById("spin").textContent);
  // angles: azimuth of each place on a ring; closed: whether the last place is beside the first; views: how well photos
  // show each frame, as [angle to the nearest photo in degrees, share of the pixels seen, whether it counts as seen].
  const { rings, azimuths, offsets, angles, closed, views } = told;
  const bytes = Uint8Array.from(atob(told.frames), (one) => one.charCodeAt(0));
  told.frames = "";
  const $ = (id) => document.getElementById(id);
  const [stage, canvas, loading, where] = ["stage", "canvas", "loading", "where"].map($);
  const context = canvas.getContext("2d");
  const STEP = 360 / azimuths;
  const KEPT = 160;
  const TURN_S = 9;
  const MOST = 6;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const LAST = 360 - STEP;
  const home = { azimuth: closed ? 30 - (30 % STEP) : STEP * Math.floor((azimuths - 1) / 2), ring: Math.floor((rings.length - 1) / 2) + 0.5, zoom: told.zoom, x: 0, y: 0 };
  const view = { ...home };
  let [speed, tilt, playing, drawn, asked, forward] = [0, 0, !still, -1, false, 1];

  // Least recently used cache: the most recently used bitmap is last.
  const bitmaps = new Map();
  const decoding = new Map();
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  // Where a side was not photographed, the view stops at both ends of the photographed one.
  const turned = (angle) => (closed ? ((angle % 360) + 360) % 360 : clamp(angle, 0, LAST));
  const frameAt = (azimuth, ring) => {
    const row = clamp(Math.floor(ring), 0, rings.length - 1);
    return row * azimuths + (Math.round(turned(azimuth) / STEP) % azimuths);
  };
  const decode = (frame) => {
    if (bitmaps.has(frame)) {
      const bitmap = bitmaps.get(frame);
      bitmaps.delete(frame);
      bitmaps.set(frame, bitmap);
      return Promise.resolve(bitmap);
    }
    if (decoding.has(frame)) return decoding.get(frame);
    const blob = new Blob([bytes.subarray(offsets[frame], offsets[frame + 1])], { type: "image/webp" });
    const coming = createImageBitmap(blob).then((bitmap) => {
      decoding.delete(frame);
      bitmaps.set(frame, bitmap);
      while (bitmaps.size > KEPT) {
        const [oldest] = bitmaps.keys();
        bitmaps.get(oldest).close();
        bitmaps.delete(oldest);
      }
      canvas.dataset.decoded = bitmaps.size;
      return bitmap;
    });
    decoding.set(frame, coming);
    return coming;
  };
  const ahead = () => {
    const way = speed < 0 ? -1 : 1;
    for (let step = 1; step <= 5; step++) decode(frameAt(view.azimuth + way * step * STEP, view.ring));
    for (const row of [-1, 1]) decode(frameAt(view.azimuth, clamp(view.ring + row, 0, rings.length - 0.01)));
  };

  const hand = $("hand");
  const unseen = (frame) => {
    const [nearest, share, seen] = views[frame] || [null, null, null];
    if (seen !== false) return "";
    const part = share === null ? "" : `, ${Math.round(share * 100)} % of it seen`;
    return `. Not photographed: nearest photo ${Math.round(nearest)}° away${part}`;
  };
  const paint = (frame, bitmap) => {
    const ratio = Math.min(devicePixelRatio || 1, 2);
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const side = Math.min(width, height) * view.zoom;
    context.clearRect(0, 0, width, height);
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, (width - side) / 2 + view.x * ratio, (height - side) / 2 + view.y * ratio, side, side);
    const row = Math.floor(frame / azimuths);
    drawn = frame;
    const azimuth = angles[frame % azimuths];
    where.textContent = `${Math.round(azimuth)}° azimuth, ${Math.round(rings[row])}° elevation${unseen(frame)}`;
    Object.assign(canvas.dataset, { frame, azimuth, elevation: rings[row], zoom: view.zoom.toFixed(3) });
    if (hand) hand.setAttribute("transform", `rotate(${-azimuth})`);
    loading.hidden = true;
  };
  const show = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(async () => {
      const frame = frameAt(view.azimuth, view.ring);
      try {
        paint(frame, await decode(frame));
      } catch (error) {
        loading.hidden = false;
        loading.textContent = `This frame cannot be decoded: ${error.message}`;
      }
      asked = false;
      ahead();
      if (frame !== frameAt(view.azimuth, view.ring)) show();
    });
  };

  let before = performance.now();
  const tick = (now) => {
    const passed = Math.min(0.1, (now - before) / 1000);
    before = now;
    if (!held.size) {
      if (playing) {
        if (!closed && view.azimuth >= LAST) forward = -1;
        if (!closed && view.azimuth <= 0) forward = 1;
        view.azimuth = turned(view.azimuth + ((forward * 360) / TURN_S) * passed);
      }
      if (Math.abs(speed) > 1) view.azimuth = turned(view.azimuth + speed * passed);
      if (Math.abs(tilt) > 0.05) view.ring = clamp(view.ring + tilt * passed, 0, rings.length - 0.01);
      const friction = Math.exp(-3.2 * passed);
      [speed, tilt] = [speed * friction, tilt * friction];
    }
    if (frameAt(view.azimuth, view.ring) !== drawn) show();
    requestAnimationFrame(tick);
  };
  const play = (wanted) => {
    playing = wanted;
    if (wanted) speed = tilt = 0;
    $("play").setAttribute("aria-pressed", wanted);
  };
  const zoom = (factor, x = 0, y = 0) => {
    const next = clamp(view.zoom * factor, 0.5, MOST);
    const share = next / view.zoom;
    [view.x, view.y, view.zoom] = [x + (view.x - x) * share, y + (view.y - y) * share, next];
    if (next <= told.zoom) [view.x, view.y] = [0, 0];
    show();
  };

  // One pointer turns, two pointers zoom.
  const held = new Map();
  const middle = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, { x: event.clientX, y: event.clientY, at: event.timeStamp });
    speed = tilt = 0;
    play(false);
  });
  canvas.addEventListener("pointermove", (event) => {
    const last = held.get(event.pointerId);
    if (!last) return;
    const [dx, dy] = [event.clientX - last.x, event.clientY - last.y];
    const took = Math.max(4, event.timeStamp - last.at) / 1000;
    if (held.size === 2) {
      const other = [...held.entries()].find(([id]) => id !== event.pointerId)[1];
      const was = Math.hypot(last.x - other.x, last.y - other.y);
      const is = Math.hypot(event.clientX - other.x, event.clientY - other.y);
      if (was > 8) zoom(is / was, ...middle(event));
    } else if (event.shiftKey) {
      [view.x, view.y] = [view.x + dx, view.y + dy];
    } else {
      const across = 360 / Math.max(240, canvas.clientWidth);
      const over = rings.length / Math.max(160, canvas.clientHeight * 0.6);
      view.azimuth = turned(view.azimuth - dx * across);
      view.ring = clamp(view.ring + dy * over, 0, rings.length - 0.01);
      speed = clamp(0.6 * speed + 0.4 * ((-dx * across) / took), -900, 900);
      tilt = 0.6 * tilt + 0.4 * ((dy * over) / took);
    }
    held.set(event.pointerId, { x: event.clientX, y: event.clientY, at: event.timeStamp });
    show();
  });
  const release = (event) => {
    const last = held.get(event.pointerId);
    // A pointer that rests before its release stops the rotation.
    if (last && event.timeStamp - last.at > 90) speed = tilt = 0;
    held.delete(event.pointerId);
  };
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, release);
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-clamp(event.deltaY, -200, 200) / 400), ...middle(event));
  }, { passive: false });
  canvas.addEventListener("dblclick", () => reset());

  const reset = () => {
    Object.assign(view, home);
    speed = tilt = 0;
    show();
  };
  const backs = [...document.querySelectorAll("[data-back]")];
  const back = (chosen) => {
    for (const one of backs) {
      one.setAttribute("aria-pressed", one === chosen);
      stage.classList.toggle(one.dataset.back, one === chosen);
    }
  };
  const turn = (azimuth, ring) => {
    play(false);
    view.azimuth = turned(view.azimuth + azimuth);
    view.ring = clamp(Math.floor(view.ring) + 0.5 + ring, 0.5, rings.length - 0.5);
    show();
  };
  const keys = {
    ArrowLeft: () => turn(-STEP, 0), ArrowRight: () => turn(STEP, 0), ArrowUp: () => turn(0, 1), ArrowDown: () => turn(0, -1),
    "+": () => zoom(1.2), "=": () => zoom(1.2), "-": () => zoom(1 / 1.2), 0: reset, Home: reset, " ": () => play(!playing),
    b: () => back(backs[(backs.findIndex((one) => one.getAttribute("aria-pressed") === "true") + 1) % backs.length]),
  };
  canvas.addEventListener("keydown", (event) => {
    const deed = keys[event.key] || keys[event.key.toLowerCase()];
    if (!deed || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    deed();
  });
  $("play").addEventListener("click", () => play(!playing));
  $("in").addEventListener("click", () => zoom(1.25));
  $("out").addEventListener("click", () => zoom(0.8));
  $("home").addEventListener("click", reset);
  $("full").addEventListener("click", () => (document.fullscreenElement ? document.exitFullscreen() : stage.requestFullscreen()));
  for (const one of backs) one.addEventListener("click", () => back(one));
  new ResizeObserver(() => { if (drawn >= 0) { drawn = -1; show(); } }).observe(canvas);
  play(playing);
  show();
  requestAnimationFrame(tick);
})();
