// The files with a picture each: which input they are for, how far their uploads are, and what can be done with them.
import { html, useEffect, useRef, useSignal } from "../../../vendor/preact.js";
import { bytes, duration, number } from "../../../format.js";
import { files } from "../file_list.js";
import { changeFiles, moveFile, removeFile, startUpload, stopUpload } from "./files.js";
import { thumbnail } from "./thumbnails.js";
import { words } from "./words.js";

const TILES_AT_FIRST = 24;
const THUMBNAILS_MOST = 120;
const thumbnails = new Map();

/** `candidate` is the chosen workload with its distribution (choose.js), or null; `unsuitable` as choose() returns it. */
export function FileTiles({ candidate, unsuitable }) {
  const text = words();
  const all = files.value;
  const refused = new Set(unsuitable.map(({ index }) => index));
  const groups = candidate ? groupsOf(candidate, all, refused, text) : [{ name: null, title: text.files, items: all.filter((_, index) => !refused.has(index)) }];
  const swap = candidate && swappable(candidate);
  return html`
    ${groups.map((group) => html`<${Group} key=${group.name ?? "all"} ...${group} candidate=${candidate} />`)}
    ${swap && html`<p><button type="button" onClick=${() => exchange(...swap, candidate)}>${text.swap}</button></p>`}
    ${unsuitable.length > 0 &&
    html`<section class="note fair" aria-label=${text.unsuitable}>
      <h2>${text.unsuitable}</h2>
      <ul class="refused">${unsuitable.slice(0, TILES_AT_FIRST).map(({ index, reason, type }) => html`<li key=${all[index].key}><b>${all[index].name}</b> ${text.reasons[reason](type)} <button type="button" class="plain" aria-label=${text.removeName(all[index].name)} onClick=${() => removeFile(all[index].key)}>${text.remove}</button></li>`)}</ul>
      ${unsuitable.length > TILES_AT_FIRST && html`<p>${text.andMore(unsuitable.length - TILES_AT_FIRST)}</p>`}
      <p><button type="button" onClick=${() => unsuitable.map(({ index }) => all[index].key).forEach(removeFile)}>${text.removeUnsuitable}</button></p>
    </section>`}
  `;
}

function groupsOf({ workload, inputs, unused, missing }, all, refused, text) {
  const needs = new Set(missing.flatMap(({ alternatives }) => alternatives.map(({ name }) => name)));
  const groups = workload.inputs
    .map((input) => ({ name: input.name, input, title: input.title, items: inputs[input.name].map((index) => all[index]), needed: needs.has(input.name) }))
    .filter(({ items, needed }) => items.length || needed);
  const left = unused.filter((index) => !refused.has(index)).map((index) => all[index]);
  return left.length ? [...groups, { name: "", title: text.notUsed, items: left }] : groups;
}

function Group({ input, title, items, needed, candidate }) {
  const text = words();
  const whole = useSignal(false);
  const shown = whole.value ? items : items.slice(0, TILES_AT_FIRST);
  return html`
    <section class="tiles">
      <h2>${title} ${items.length > 1 && html`<span class="quiet">${number(items.length)}</span>`}</h2>
      ${needed && items.length === 0 && html`<p class="hint missing">${text.stillMissing(text.media(input.media, Math.max(1, input.minimum)))}</p>`}
      <ul>${shown.map((item, index) => html`<${Tile} key=${item.key} item=${item} input=${input} candidate=${candidate} before=${items[index - 1]} after=${items[index + 1]} />`)}</ul>
      ${items.length > shown.length && html`<button type="button" onClick=${() => (whole.value = true)}>${text.showAll(items.length)}</button>`}
    </section>
  `;
}

function Tile({ item, input, candidate, before, after }) {
  const text = words();
  const facts = useSignal(null);
  const over = useSignal(false);
  const ordered = input?.maximum > 1;
  const inputs = candidate?.workload.inputs.filter(({ media }) => media === item.media) ?? [];
  const drag = {
    draggable: true,
    onDragStart: (event) => event.dataTransfer.setData("application/x-saccade-file", String(item.key)),
    onDragOver: (event) => {
      if (!event.dataTransfer.types.includes("application/x-saccade-file")) return;
      event.preventDefault();
      over.value = true;
    },
    onDragLeave: () => (over.value = false),
    onDrop: (event) => {
      over.value = false;
      const key = Number(event.dataTransfer.getData("application/x-saccade-file"));
      if (!key || key === item.key) return;
      event.preventDefault();
      dropOn(key, item, candidate);
    },
  };
  const move = (label, icon, act) => html`<button type="button" class="plain" aria-label=${label} title=${label} onClick=${act}>${icon}</button>`;
  return html`
    <li class=${over.value ? "tile over" : "tile"} ...${drag}>
      <${Picture} item=${item} facts=${facts} />
      <div class="about">
        <b class="name">${item.name}</b>
        <span class="hint">${[bytes(item.size), facts.value?.duration_s && duration(facts.value.duration_s), facts.value && `${facts.value.width_px} × ${facts.value.height_px}`].filter(Boolean).join(" · ")}</span>
        <${Progress} item=${item} />
        ${inputs.length > 0 &&
        html`<select aria-label=${text.useOf(item.name)} value=${input?.name ?? ""} onChange=${(event) => setUse(item, event.target.value, candidate)}>
          ${inputs.map(({ name, title }) => html`<option key=${name} value=${name}>${title}</option>`)}
          <option value="">${text.notUsed}</option>
        </select>`}
        <div class="row">
          ${ordered && before && move(text.earlier(item.name), "←", () => moveFile(item.key, before.key))}
          ${ordered && after && move(text.later(item.name), "→", () => moveFile(after.key, item.key))}
          <button type="button" class="plain" aria-label=${text.removeName(item.name)} onClick=${() => removeFile(item.key)}>${text.remove}</button>
        </div>
      </div>
    </li>
  `;
}

function Picture({ item, facts }) {
  const canvas = useRef(null);
  useEffect(() => {
    if (!item.file || (!thumbnails.has(item.key) && thumbnails.size >= THUMBNAILS_MOST)) return undefined;
    if (!thumbnails.has(item.key)) thumbnails.set(item.key, item.media === "archive" ? Promise.resolve(null) : thumbnail(item.file, item.media));
    let wanted = true;
    thumbnails.get(item.key).then((found) => {
      if (!wanted || !found) return;
      Object.assign(canvas.current, { width: found.picture.width, height: found.picture.height });
      canvas.current.getContext("2d").drawImage(found.picture, 0, 0);
      facts.value = found;
    });
    return () => {
      wanted = false;
      if (files.value.some(({ key }) => key === item.key)) return;
      thumbnails.get(item.key)?.then((found) => found?.picture.close());
      thumbnails.delete(item.key);
    };
  }, [item.key]);
  const kind = words().kinds[item.media] ?? "";
  return html`<div class="picture"><canvas ref=${canvas} hidden=${!facts.value} aria-hidden="true"></canvas>${!facts.value && html`<span class="hint">${kind}</span>`}</div>`;
}

/** How far the upload of a file is; only this text is rendered again while bytes are sent. */
function Progress({ item }) {
  const text = words();
  const { name: phase, error } = item.phase.value;
  if (phase === "waiting") return null;
  if (phase === "sending") {
    return html`
      <progress max=${item.size} value=${item.done.value} aria-label=${text.uploading(item.name)}></progress>
      <span class="row between"><span class="hint number">${text.sent(bytes(item.done.value), bytes(item.size))}</span>
      <button type="button" class="plain" aria-label=${text.stopName(item.name)} onClick=${() => stopUpload(item.key)}>${text.stop}</button></span>
    `;
  }
  if (phase === "done") return html`<span class="state good">${text.uploaded}</span>`;
  const again = (label) => html`<button type="button" onClick=${() => startUpload(item)}>${label}</button>`;
  if (phase === "stopped") return html`<span class="row"><span class="state wait">${text.stopped}</span>${again(text.goOn)}</span>`;
  return html`
    <div role="alert">
      <span class="state bad">${text.notUploaded}</span>
      <p class="hint">${error.message} ${error.hint} <code>${error.code ?? error.name}</code></p>
      ${again(text.again)}
    </div>
  `;
}

/** Return the input that a file is used for. */
const useOf = (key, { inputs }) => Object.keys(inputs).find((name) => inputs[name].some((index) => files.value[index]?.key === key)) ?? "";

function setUse(item, name, candidate) {
  const changes = new Map([[item.key, { use: name }]]);
  const input = candidate.workload.inputs.find((one) => one.name === name);
  // An input for one file gives back what it has to where the new one comes from.
  if (input?.maximum === 1) for (const index of candidate.inputs[name]) changes.set(files.value[index].key, { use: useOf(item.key, candidate) });
  changeFiles(changes);
}

function dropOn(key, target, candidate) {
  if (!candidate) return moveFile(key, target.key);
  const [from, to] = [useOf(key, candidate), useOf(target.key, candidate)];
  const moved = files.value.find((item) => item.key === key);
  if (from === to) return moveFile(key, target.key);
  if (moved.media === target.media) changeFiles(new Map([[key, { use: to }], [target.key, { use: from }]]));
}

/** Return two inputs for one file of the same kind that both have one; null if there are no such two. */
function swappable({ workload, inputs }) {
  const filled = workload.inputs.filter(({ name, maximum }) => maximum === 1 && inputs[name].length === 1);
  return filled.length === 2 && filled[0].media === filled[1].media ? filled : null;
}

function exchange(one, other, { inputs }) {
  const [first, second] = [files.value[inputs[one.name][0]], files.value[inputs[other.name][0]]];
  changeFiles(new Map([[first.key, { use: other.name }], [second.key, { use: one.name }]]));
}
