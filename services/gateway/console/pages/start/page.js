// Start: files are dropped, a workload is chosen by rule, its price is shown, and a job is submitted.
import { html, useEffect, useSignal } from "../../vendor/preact.js";
import { get, may } from "../../api.js";
import { bytes } from "../../format.js";
import { Commands } from "../../parts/commands.js";
import { dropped, FILES_MOST, over } from "../../parts/file_drops.js";
import { loadCss, stylesLoaded } from "../../parts/load_css.js";
import { Loaded, useLoaded } from "../../parts/loaded.js";
import { Problem } from "../../parts/problem.js";
import { spoken } from "../../preferences.js";
import { files } from "./file_list.js";
import { Demo, Overview } from "./overview.js";
import { forgetUnfinished, unfinished } from "./upload_records.js";
import { words } from "./words.js";

loadCss(import.meta.url, "page.css");

/** What is needed from the first file on is not loaded before. */
const loadDesk = async () => {
  const desk = await import("./desk/desk.js");
  await stylesLoaded();
  return desk;
};

export default function Start({ query }) {
  const workloads = useLoaded((signal) => get("/v1/workloads", { lang: spoken.value }, signal).then(({ data }) => data), [spoken.value]);
  const text = words();
  const leftOut = useSignal(0);
  const failure = useSignal(null);
  const add = async (given) => {
    try {
      const { addFiles } = await import("./desk/files.js");
      leftOut.value = addFiles(given);
    } catch (error) {
      failure.value = error;
    }
  };
  const waiting = dropped.value;
  useEffect(() => {
    if (waiting.length === 0) return;
    dropped.value = [];
    add(waiting);
  }, [waiting]);
  const started = files.value.length > 0 || query.has("workload") || query.has("like");
  return html`
    <div class="page-head"><div><h1>${text.title}</h1><p class="quiet">${text.intro}</p></div></div>
    <${Drop} over=${over.value} small=${started} onFiles=${add} />
    <${Unfinished} />
    ${failure.value && html`<${Problem} error=${failure.value} />`}
    ${leftOut.value > 0 && html`<p class="note fair" role="alert">${text.tooMany(leftOut.value, FILES_MOST)}</p>`}
    <${Loaded} of=${workloads}>${(list) => (started ? html`<${LoadedDesk} workloads=${list} query=${query} />` : html`<${Overview} workloads=${list} /><${Demo} />`)}<//>
    ${!started && html`<${Commands} cli="saccade workloads" path="/v1/workloads" />`}
  `;
}

function LoadedDesk(given) {
  const desk = useLoaded(loadDesk, []);
  return html`<${Loaded} of=${desk}>${({ Desk }) => html`<${Desk} ...${given} />`}<//>`;
}

function Drop({ over, small, onFiles }) {
  const text = words();
  const choose = (event) => {
    onFiles([...event.target.files]);
    event.target.value = "";
  };
  // Desktop browsers have no camera app to open.
  const hasCamera = matchMedia("(pointer: coarse)").matches;
  const picker = (label, accept, more) => html`
    <label class="button file">${label}<input type="file" class="unseen" accept=${accept} onChange=${choose} ...${more} /></label>
  `;
  return html`
    <div class=${`drop${small ? " small" : ""}${over ? " over" : ""}`}>
      <p><b>${text.drop}</b></p>
      ${!small && html`<p class="hint">${text.dropHint}</p>`}
      <div class="row">
        ${picker(text.chooseFiles, "video/*,image/*,.zip,.mkv,application/zip", { multiple: true })}
        ${hasCamera && picker(text.film, "video/*", { capture: "environment" })}
        ${hasCamera && picker(text.photograph, "image/*", { capture: "environment" })}
      </div>
      ${!may("write") && html`<p class="note fair">${text.readOnly}</p>`}
    </div>
  `;
}

/** Uploads that a reload or a closed tab has interrupted. */
function Unfinished() {
  const text = words();
  const forgotten = useSignal(false);
  const here = new Set(files.value.map(({ name }) => name));
  const found = forgotten.value ? [] : unfinished().filter(({ name }) => !here.has(name));
  if (found.length === 0) return null;
  const list = found.slice(-3).map(({ name, size }) => `${name} (${bytes(size)})`);
  const forget = () => {
    forgetUnfinished();
    forgotten.value = true;
  };
  return html`<div class="note interrupted"><p>${text.interrupted(text.list(list))} <button type="button" class="plain" onClick=${forget}>${text.forget}</button></p></div>`;
}

