// Where the object is in one photo: a point on it, or two corners of a box around it, clicked on the picture.
import { html, useSignal } from "../../vendor/preact.js";
import { PointsPicker } from "./points.js";
import { words } from "./words.js";

const POINT = ["object"];
const BOX = ["corner", "opposite_corner"];

/** `value` is {photo, x, y} or {photo, box: [left, top, right, bottom]} in px, or null; `pictures` are [{name, file}]. */
export function HintPicker({ value, pictures, onValue }) {
  const text = words().hint;
  const given = pictures.findIndex(({ name }) => name === value?.photo);
  const chosen = useSignal(Math.max(given, 0));
  const boxed = useSignal(Boolean(value?.box));
  // The first corner alone is no value yet.
  const corner = useSignal({});
  const picture = pictures[Math.min(chosen.value, pictures.length - 1)];
  const points = value?.photo === picture.name ? pointsOf(value, boxed.value) : {};
  const change = (points) => {
    corner.value = boxed.value ? points : {};
    onValue(valueOf(points, picture.name));
  };
  const switchTo = (box) => {
    boxed.value = box;
    corner.value = {};
    onValue(null);
  };
  const pick = (event) => {
    chosen.value = Number(event.target.value);
    corner.value = {};
    onValue(null);
  };
  return html`
    <div class="row">
      ${pictures.length > 1 &&
      html`<select aria-label=${text.photo} value=${String(chosen.value)} onChange=${pick}>${pictures.map(({ name }, index) => html`<option key=${name} value=${String(index)}>${name}</option>`)}</select>`}
      <button type="button" aria-pressed=${String(!boxed.value)} onClick=${() => switchTo(false)}>${text.point}</button>
      <button type="button" aria-pressed=${String(boxed.value)} onClick=${() => switchTo(true)}>${text.box}</button>
    </div>
    <${PointsPicker} key=${`${picture.name} ${boxed.value}`} names=${boxed.value ? BOX : POINT} needed=${boxed.value ? BOX : POINT} points=${{ ...points, ...corner.value }} file=${picture.file} onPoints=${change} />
  `;
}

function pointsOf({ x, y, box }, boxed) {
  if (boxed) return box ? { corner: [box[0], box[1]], opposite_corner: [box[2], box[3]] } : {};
  return x === undefined || y === undefined ? {} : { object: [x, y] };
}

function valueOf({ object, corner, opposite_corner: opposite }, photo) {
  if (object) return { photo, x: object[0], y: object[1] };
  if (!corner || !opposite) return null;
  const sides = [0, 1].map((axis) => [corner[axis], opposite[axis]].sort((one, other) => one - other));
  return { photo, box: [sides[0][0], sides[1][0], sides[0][1], sides[1][1]] };
}
