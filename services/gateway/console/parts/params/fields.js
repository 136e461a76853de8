// Fields of a workload's parameters, made from its JSON Schema; those with a default are folded away.
import { html, useId, useSignal } from "../../vendor/preact.js";
import { loadCss } from "../load_css.js";
import { entryOf, labelOf } from "./form.js";
import { words } from "./words.js";

loadCss(import.meta.url, "params.css");

const LONG_TEXT_CHARS = 200;

/**
 * The fields of a form. `entries` are what is entered, by name (form.js); `onEntries` gets the new ones.
 *
 * `problems` are [code, limit] by name, `refusals` texts of the server by name; `unavailable` are values by name that
 * the workers cannot do; `picture` is a file to click points on, or null; `pictures` are all photos, as [{name, file}].
 */
export function ParamsForm({ fields, entries, onEntries, problems = {}, refusals = {}, unavailable = {}, picture = null, pictures = [] }) {
  const text = words();
  const opened = useSignal(false);
  // Decided once: a field that moved when it is first changed would lose the focus.
  const shown = useSignal(null);
  const isShown = (field) => field.required || field.name in entries || field.kind === "points" || optional(field)?.kind === "points";
  shown.value ??= new Set(fields.filter(isShown).map(({ name }) => name));
  const change = (name) => (entry) => {
    const { [name]: _, ...others } = entries;
    onEntries(entry === undefined ? others : { ...others, [name]: entry });
  };
  const row = (field) => html`
    <${Field} key=${field.name} field=${field} entry=${entries[field.name]} onEntry=${change(field.name)} problem=${problems[field.name]}
      refusal=${refusals[field.name]} missing=${unavailable[field.name] ?? []} picture=${picture} pictures=${pictures} />
  `;
  const folded = fields.filter(({ name }) => !shown.value.has(name));
  const changed = folded.filter(({ name }) => name in entries).length;
  const wrong = folded.some(({ name }) => problems[name] || refusals[name]);
  return html`
    ${fields.filter(({ name }) => shown.value.has(name)).map(row)}
    ${folded.length > 0 &&
    html`
      <details class="folded" open=${opened.value || wrong} onToggle=${(event) => (opened.value = event.currentTarget.open)}>
        <summary>${text.defaults(folded.length)}${changed > 0 && html` <span class="chip">${text.changed(changed)}</span>`}</summary>
        <div class="fields">${folded.map(row)}</div>
      </details>
    `}
  `;
}

/** One field with its label, what it means, its default and what is wrong with it. */
function Field({ field, entry, onEntry, problem, refusal, missing, picture, pictures = [] }) {
  const text = words();
  const id = useId();
  const wrong = refusal ?? (problem && text.problems[problem[0]](problem[1]));
  const given = { field, entry, onEntry, id, missing, picture, pictures, described: `${id}-hint`, invalid: Boolean(wrong) };
  return html`
    <div class=${wrong ? "param wrong" : "param"}>
      <div class="row between">
        <label for=${id}>${labelOf(field)}</label>
        ${entry !== undefined && !field.required && html`<button type="button" class="plain reset" onClick=${() => onEntry(undefined)} aria-label=${text.resetOf(labelOf(field))}>${text.reset}</button>`}
      </div>
      <${Control} ...${given} />
      <p class="hint" id=${`${id}-hint`}>${field.hint}${defaultText(field, text)}${wrong && html`<span class="bad" role="alert">${wrong}</span>`}</p>
    </div>
  `;
}

function defaultText(field, text) {
  if (!("default" in field) || field.default === null || field.default === "") return "";
  const value = typeof field.default === "string" ? field.default : JSON.stringify(field.default);
  return value.length > 40 ? "" : ` ${text.byDefault(value)}`;
}

function Control(given) {
  const { field, entry, onEntry, id, described, invalid } = given;
  const text = words();
  const aria = { id, "aria-describedby": described, "aria-invalid": invalid ? "true" : undefined };
  if (entry && "json" in entry && !["points", "hint"].includes(field.kind)) return html`<${Json} ...${given} />`;
  switch (field.kind) {
    case "integer":
    case "number":
      return html`<input ...${aria} type="text" inputmode=${field.kind === "integer" ? "numeric" : "decimal"} autocomplete="off" value=${entry?.text ?? ""} placeholder=${placeholder(field)} onInput=${typed(given)} />`;
    case "text": {
      const value = entry?.text ?? "";
      const long = field.maxLength > LONG_TEXT_CHARS || value.includes("\n");
      return long
        ? html`<textarea ...${aria} rows="2" placeholder=${placeholder(field)} onInput=${typed(given)} value=${value}></textarea>`
        : html`<input ...${aria} type="text" autocomplete="off" spellcheck="false" value=${value} placeholder=${placeholder(field)} onInput=${typed(given)} />`;
    }
    case "truth":
      return html`<input ...${aria} type="checkbox" checked=${entry?.truth ?? field.default ?? false} onChange=${(event) => onEntry({ truth: event.target.checked })} />`;
    case "choice":
      return html`<${Choice} ...${given} aria=${aria} />`;
    case "lines":
      return html`<textarea ...${aria} rows="3" placeholder=${text.onePerLine} onInput=${typed(given)} value=${entry?.text ?? ""}></textarea>`;
    case "either":
      return html`<${Either} ...${given} />`;
    case "group":
      return html`<${Group} ...${given} />`;
    case "list":
      return html`<${List} ...${given} />`;
    case "points":
      return html`<${Points} ...${given} />`;
    case "hint":
      return html`<${Hint} ...${given} />`;
    default:
      return html`<${Json} ...${given} />`;
  }
}

/** A text that is empty again means the default, as before. */
const typed = ({ field, onEntry }) => (event) => {
  const value = event.target.value;
  onEntry(value === "" && (field.kind !== "text" || field.default === "") ? undefined : { text: value });
};

function placeholder(field) {
  if ("default" in field && field.default !== null && typeof field.default !== "object") return String(field.default);
  return field.minimum !== undefined && field.maximum !== undefined ? `${field.minimum} – ${field.maximum}` : "";
}

function Choice({ field, entry, onEntry, missing, aria }) {
  const text = words();
  const defaultIndex = field.options.findIndex((option) => option === field.default);
  const selected = entry?.index ?? defaultIndex;
  const change = (event) => onEntry(event.target.value === "" ? undefined : { index: Number(event.target.value) });
  return html`
    <select ...${aria} value=${selected < 0 ? "" : String(selected)} onChange=${change}>
      ${selected < 0 && html`<option value="">${text.choose}</option>`}
      ${field.options.map((option, index) => {
        const name = option === "" ? text.empty : typeof option === "string" ? option : JSON.stringify(option);
        const absent = missing.includes(option);
        return html`<option key=${index} value=${String(index)} disabled=${absent}>${absent ? text.notInstalled(name) : name}</option>`;
      })}
    </select>
  `;
}

/** Return the only branch besides null; undefined for other fields. */
function optional(field) {
  const others = field.branches?.filter(({ kind }) => kind !== "null");
  return others?.length === 1 && field.branches.length === 2 ? others[0] : undefined;
}

/** One of several kinds of value: an optional value is shown as it is, other alternatives with a choice before them. */
function Either({ field, entry, onEntry, id, ...given }) {
  const text = words();
  const inner = optional(field);
  const wrap = (branch) => (value) => onEntry(value === undefined ? undefined : { branch, entry: value });
  if (inner) {
    const branch = field.branches.indexOf(inner);
    const value = entry?.branch === branch ? entry.entry : undefined;
    return html`<${Control} ...${given} id=${id} field=${{ ...inner, default: field.default }} entry=${value} onEntry=${wrap(branch)} />`;
  }
  const chosen = entry?.branch ?? entryFor(field)?.branch ?? 0;
  const current = field.branches[chosen];
  const pick = (event) => {
    const branch = Number(event.target.value);
    onEntry({ branch, entry: blank(field.branches[branch]) });
  };
  return html`
    <div class="either">
      <select aria-label=${text.kindOf} value=${String(chosen)} onChange=${pick}>
        ${field.branches.map((branch, index) => html`<option key=${index} value=${String(index)}>${text.kinds[branch.kind]}</option>`)}
      </select>
      <${Control} ...${given} id=${id} field=${{ ...current, default: field.default }} entry=${entry?.branch === chosen ? entry.entry : undefined} onEntry=${wrap(chosen)} />
    </div>
  `;
}

const entryFor = (field) => ("default" in field ? entryOf(field, field.default) : undefined);

/** Return what is entered in a field that has just been added. */
function blank(field) {
  if ("default" in field) return entryOf(field, field.default);
  switch (field.kind) {
    case "truth":
      return { truth: false };
    case "choice":
      return { index: 0 };
    case "list":
      return { items: [] };
    case "group":
      return { entries: {} };
    case "either":
      return { branch: 0, entry: blank(field.branches[0]) };
    case "null":
      return {};
    case "json":
    case "hint":
    case "points":
      return { json: "{}" };
    default:
      return { text: "" };
  }
}

/** The fields of an object; an optional one that is not given has a button that adds it. */
function Group({ field, entry, onEntry, id }) {
  const text = words();
  if (entry === undefined) return html`<button type="button" id=${id} onClick=${() => onEntry({ entries: {} })}>${text.add}</button>`;
  const change = (name) => (value) => {
    const { [name]: _, ...others } = entry.entries;
    onEntry({ entries: value === undefined ? others : { ...others, [name]: value } });
  };
  return html`
    <div class="group" id=${id} role="group">
      ${field.fields.map((inner) => html`<${Field} key=${inner.name} field=${inner} entry=${entry.entries[inner.name]} onEntry=${change(inner.name)} missing=${[]} picture=${null} />`)}
    </div>
  `;
}

/** A list of objects. */
function List({ field, entry, onEntry, id }) {
  const text = words();
  const items = entry?.items ?? [];
  const set = (changed) => onEntry(changed.length ? { items: changed } : undefined);
  return html`
    <div class="list" id=${id} role="group">
      ${items.map(
        (item, index) => html`
          <div key=${index} class="group">
            <${Control} field=${field.item} entry=${item} onEntry=${(value) => set(items.with(index, value ?? blank(field.item)))} id=${`${id}-${index}`} />
            <button type="button" class="plain" onClick=${() => set(items.toSpliced(index, 1))}>${text.remove}</button>
          </div>
        `,
      )}
      <button type="button" disabled=${items.length >= (field.maxItems ?? Infinity)} onClick=${() => set([...items, blank(field.item)])}>${text.addOne}</button>
    </div>
  `;
}

function Json({ field, entry, onEntry, id, described, invalid }) {
  const value = entry && "json" in entry ? entry.json : entry === undefined ? "" : JSON.stringify(entry);
  const change = (event) => onEntry(event.target.value.trim() === "" ? undefined : { json: event.target.value });
  const shown = field.default === undefined || field.default === null ? "{}" : JSON.stringify(field.default);
  return html`<textarea id=${id} aria-describedby=${described} aria-invalid=${invalid ? "true" : undefined} class="mono" rows="3" spellcheck="false" placeholder=${shown} value=${value} onInput=${change}></textarea>`;
}

/** Named points in a picture: clicked on the file's first frames, or written as JSON without a file. */
function Points({ field, entry, onEntry, id, picture, ...given }) {
  const text = words();
  const opened = useSignal(null);
  if (!picture) return html`<${Json} ...${given} field=${field} entry=${entry} onEntry=${onEntry} id=${id} />`;
  const open = async () => (opened.value = (await import("./points.js")).PointsPicker);
  const Picker = opened.value;
  const points = pointsOf(entry);
  const count = Object.keys(points).length;
  return html`
    ${Picker
      ? html`<${Picker} names=${field.names} needed=${field.needed} points=${points} file=${picture} onPoints=${(value) => onEntry(Object.keys(value).length ? { json: JSON.stringify(value) } : undefined)} />`
      : html`<button type="button" id=${id} onClick=${open}>${text.clickPoints}</button>`}
    ${count > 0 && html`<span class="chip">${text.pointsSet(count, field.needed.length)}</span>`}
  `;
}

/** A point or a box in one of the photos: clicked on it, or written as JSON without photos. */
function Hint({ entry, onEntry, id, pictures, ...given }) {
  const text = words();
  const opened = useSignal(null);
  if (!pictures.length) return html`<${Json} ...${given} entry=${entry} onEntry=${onEntry} id=${id} />`;
  const open = async () => (opened.value = (await import("./hint.js")).HintPicker);
  const Picker = opened.value;
  const value = pointsOf(entry);
  const set = (changed) => onEntry(changed ? { json: JSON.stringify(changed) } : undefined);
  return html`
    ${Picker ? html`<${Picker} value=${value} pictures=${pictures} onValue=${set} />` : html`<button type="button" id=${id} onClick=${open}>${text.hint.click}</button>`}
    ${value.photo && html`<span class="chip">${text.hint.set(value.photo)}</span>`}
  `;
}

function pointsOf(entry) {
  try {
    return entry?.json ? JSON.parse(entry.json) : {};
  } catch {
    return {};
  }
}
