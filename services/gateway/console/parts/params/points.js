// Named points on a picture: clicked, dragged, or moved with the keyboard, in pixels of the upright picture.
import { html, useEffect, useRef, useSignal } from "../../vendor/preact.js";
import { words } from "./words.js";

const ZOOMS = [1, 2, 4, 8];
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** `points` are {name: [x, y]}; `names` in the order in which they are clicked; the first of them are `needed`. */
export function PointsPicker({ names, needed, points, file, onPoints }) {
  const text = words().points;
  const canvas = useRef(null);
  const source = useRef(null);
  const state = useSignal({ size: null, duration_s: 0, failed: false });
  const zoom = useSignal(1);
  const chosen = useSignal(null);
  const dragged = useRef(false);
  useEffect(() => {
    const reader = new FrameReader(file, canvas.current);
    source.current = reader;
    reader.open().then(
      (found) => (state.value = { ...found, failed: false }),
      () => (state.value = { ...state.value, failed: true }),
    );
    return () => reader.close();
  }, [file]);
  const { size, duration_s: duration, failed } = state.value;
  const next = names.find((name) => !(name in points));
  const current = chosen.value ?? next;
  const place = (name, x, y) => {
    const inside = [Math.min(Math.max(x, 0), size[0]), Math.min(Math.max(y, 0), size[1])].map((value) => Math.round(value * 10) / 10);
    onPoints({ ...points, [name]: inside });
  };
  const at = (event) => {
    const box = canvas.current.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * size[0], ((event.clientY - box.top) / box.height) * size[1]];
  };
  const press = (event) => {
    if (!size || event.button) return;
    const name = event.target.dataset.point ?? current;
    if (!name) return;
    event.preventDefault();
    event.currentTarget.setPointerCapture(event.pointerId);
    dragged.current = name;
    chosen.value = event.target.dataset.point ?? null;
    if (!event.target.dataset.point) place(name, ...at(event));
    else event.target.focus();
  };
  const drag = (event) => dragged.current && place(dragged.current, ...at(event));
  const key = (name) => (event) => {
    const step = STEPS[event.key];
    if (step) {
      const far = event.shiftKey ? 10 : 1;
      place(name, points[name][0] + far * step[0], points[name][1] + far * step[1]);
    } else if (event.key === "Delete" || event.key === "Backspace") {
      const { [name]: _, ...others } = points;
      chosen.value = null;
      onPoints(others);
    } else return;
    event.preventDefault();
  };
  const corners = needed.filter((name) => name in points).map((name) => points[name].join(","));
  return html`
    <div class="points">
      ${failed && html`<p class="note fair">${text.failed}</p>`}
      <p role="status">${failed ? "" : !size ? text.reading : current ? text.next(label(current)) : text.done}</p>
      <div class="frame-box" hidden=${failed}>
        <div class="frame-area" style=${{ width: `${100 * zoom.value}%` }} onPointerDown=${press} onPointerMove=${drag} onPointerUp=${() => (dragged.current = false)} onPointerCancel=${() => (dragged.current = false)}>
          <canvas ref=${canvas}></canvas>
          ${size &&
          html`<svg viewBox=${`0 0 ${size[0]} ${size[1]}`} preserveAspectRatio="none" aria-hidden="true">
            ${corners.length > 2 && html`<polygon points=${corners.join(" ")} fill="none" stroke="#fff" stroke-width="1.5" vector-effect="non-scaling-stroke" />`}
          </svg>`}
          ${size &&
          names.map((name, index) => {
            if (!(name in points)) return null;
            const [x, y] = points[name];
            return html`<button key=${name} type="button" class="mark" data-point=${name} aria-pressed=${String(chosen.value === name)} aria-label=${`${index + 1} ${text.point(label(name), x, y)}`}
              style=${{ left: `${(100 * x) / size[0]}%`, top: `${(100 * y) / size[1]}%` }} onFocus=${() => (chosen.value = name)} onKeyDown=${key(name)}>${index + 1}</button>`;
          })}
        </div>
      </div>
      <div class="row">
        <span class="hint">${text.zoom}</span>
        ${ZOOMS.map((factor) => html`<button key=${factor} type="button" aria-pressed=${String(zoom.value === factor)} onClick=${() => (zoom.value = factor)}>${factor}×</button>`)}
        ${size && current && !(current in points) && html`<button type="button" onClick=${() => place(current, size[0] / 2, size[1] / 2)}>${text.place(label(current))}</button>`}
        ${Object.keys(points).length > 0 && html`<button type="button" onClick=${() => ((chosen.value = null), onPoints({}))}>${text.clear}</button>`}
      </div>
      ${duration > 0 && html`<label class="field"><span>${text.frame}</span><input type="range" min="0" max=${duration} step="0.1" value="0" onChange=${(event) => source.current.seek(Number(event.target.value))} /></label>`}
      <p class="hint">${text.keys}</p>
      <ol>${names.map((name, index) => name in points && html`<li key=${name} class="chip">${index + 1} ${text.point(label(name), ...points[name])}</li>`)}</ol>
    </div>
  `;
}

const label = (name) => name.replaceAll("_", " ");

/** Draws frames of a video, or a picture, on a canvas. */
class FrameReader {
  #file;
  #canvas;
  #video = null;
  #url = null;

  constructor(file, canvas) {
    this.#file = file;
    this.#canvas = canvas;
  }

  async open() {
    if (this.#file.type.startsWith("image/")) {
      const picture = await createImageBitmap(this.#file);
      this.#draw(picture, picture.width, picture.height);
      picture.close();
      return { size: [this.#canvas.width, this.#canvas.height], duration_s: 0 };
    }
    this.#url = URL.createObjectURL(this.#file);
    this.#video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, preload: "auto", src: this.#url });
    await happens(this.#video, "loadeddata");
    this.#draw(this.#video, this.#video.videoWidth, this.#video.videoHeight);
    return { size: [this.#video.videoWidth, this.#video.videoHeight], duration_s: this.#video.duration || 0 };
  }

  async seek(time_s) {
    this.#video.currentTime = time_s;
    await happens(this.#video, "seeked");
    this.#draw(this.#video, this.#video.videoWidth, this.#video.videoHeight);
  }

  close() {
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#video?.removeAttribute("src");
  }

  #draw(picture, width, height) {
    Object.assign(this.#canvas, { width, height });
    this.#canvas.getContext("2d").drawImage(picture, 0, 0);
  }
}

function happens(video, name) {
  return new Promise((resolve, reject) => {
    video.addEventListener(name, resolve, { once: true });
    video.addEventListener("error", () => reject(new Error(video.error?.message ?? "unreadable")), { once: true });
  });
}
