// Start: files are dropped, a workload is chosen by rule, its price is shown, and a job is submitted.
import { html, useEffect, useMemo, useRef, useSignal } from "../../vendor/preact.js";
import { call, get, may } from "../../api.js";
import { bytes } from "../../format.js";
import { Commands, CopyButton, quoted } from "../../parts/commands.js";
import { load_css } from "../../parts/load_css.js";
import { Loaded, useLoaded } from "../../parts/loaded.js";
import { ParamsForm } from "../../parts/params/fields.js";
import { entriesOf, fieldsOf, paramsOf } from "../../parts/params/form.js";
import { Problem } from "../../parts/problem.js";
import { base, go, href, setQuery } from "../../router.js";
import { choose } from "./choose.js";
import { useDrops } from "./drops.js";
import { FileTiles } from "./file_tiles.js";
import { addFiles, addUploads, files, FILES_MOST, removeAll, removeFile, uploadAll } from "./files.js";
import { bodyOf, MoreOptions, NO_OPTIONS } from "./more_options.js";
import { fieldsOf as refusedFields, Price, usePrice } from "./price.js";
import { forgetUnfinished, unfinished } from "./upload_records.js";
import { words } from "./words.js";
import { Overview, WorkloadChoice } from "./workload_choice.js";

load_css("./page.css", import.meta.url);

export default function Start({ query }) {
  const workloads = useLoaded((signal) => get("/v1/workloads", {}, signal).then(({ data }) => data), []);
  const text = words();
  return html`
    <div class="page-head"><div><h1>${text.title}</h1><p class="quiet">${text.intro}</p></div></div>
    <${Loaded} of=${workloads}>${(list) => html`<${Desk} workloads=${list} query=${query} />`}<//>
  `;
}

function Desk({ workloads, query }) {
  const text = words();
  const tooMany = useSignal(0);
  const add = (dropped) => (tooMany.value = addFiles(dropped));
  const over = useDrops(add);
  const source = useEarlierJob(query.get("from"));
  const all = files.value;
  const choice = useMemo(() => choose(workloads, all), [workloads, all]);
  const name = query.get("workload") ?? source.value?.workload ?? choice.chosen;
  const chosen = choice.candidates.find(({ workload }) => workload.name === name) ?? null;
  const pick = (workload) => setQuery({ workload, params: null });
  return html`
    <div class=${over ? "desk over" : "desk"}>
      <div class="side">
        <${Drop} small=${all.length > 0 || chosen} onFiles=${add} />
        <${Unfinished} />
        ${source.error && html`<${Problem} error=${source.error} />`}
        ${tooMany.value > 0 && html`<p class="note fair" role="alert">${text.tooMany(tooMany.value, FILES_MOST)}</p>`}
        ${(all.length > 0 || chosen) && html`<${FileTiles} candidate=${chosen} unsuitable=${choice.unsuitable} />`}
        ${all.length > 1 && html`<p><button type="button" onClick=${removeAll}>${text.removeAll}</button></p>`}
      </div>
      ${(all.length > 0 || chosen) &&
      html`<div class="side">
        <${WorkloadChoice} choice=${choice} chosen=${chosen} files=${all} onChoose=${pick} />
        ${chosen && html`<${NewJob} key=${`${chosen.workload.name} ${source.value?.id ?? ""}`} candidate=${chosen} given=${paramsGiven(query, source.value)} />`}
      </div>`}
    </div>
    ${all.length === 0 && !chosen && html`<${Overview} workloads=${workloads} /><${Demo} />`}
    ${!chosen && html`<${Commands} cli="saccade workloads" path="/v1/workloads" />`}
  `;
}

/** Read a job whose inputs and parameters are taken over: the address names it. */
function useEarlierJob(jobId) {
  const found = useSignal({ value: null, error: null });
  useEffect(() => {
    if (!jobId) return;
    get(`/v1/jobs/${encodeURIComponent(jobId)}`).then(
      (job) => {
        removeAll();
        addUploads(Object.entries(job.inputs).flatMap(([use, given]) => [].concat(given).map((input) => ({ ...input, use }))));
        found.value = { value: job, error: null };
      },
      (error) => (found.value = { value: null, error }),
    );
  }, [jobId]);
  return found.value;
}

function paramsGiven(query, job) {
  try {
    const given = JSON.parse(query.get("params") ?? "null");
    if (given && typeof given === "object") return given;
  } catch {
    // Somebody has written it by hand: the form starts with the defaults.
  }
  return job?.params ?? {};
}

function Drop({ small, onFiles }) {
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
    <div class=${small ? "drop small" : "drop"}>
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

function Demo() {
  const text = words();
  const command = `saccade demo --url ${quoted(location.origin + base.replace(/\/$/, ""))}`;
  return html`
    <section class="card" aria-label=${text.demo}>
      <h2>${text.demo}</h2>
      <p>${text.demoHint}</p>
      <pre>${command}</pre>
      <${CopyButton} text=${command} />
    </section>
  `;
}

/** Parameters, options, price and the button that submits. */
function NewJob({ candidate, given }) {
  const text = words();
  const { workload, inputs, missing } = candidate;
  const fields = useMemo(() => fieldsOf(workload.params_schema), [workload]);
  const entries = useSignal(null);
  entries.value ??= entriesOf(fields, given);
  const options = useSignal(NO_OPTIONS);
  const wanted = useSignal(false);
  const submission = useSignal({ busy: false, error: null });
  const key = useRef({ body: "", key: "" });
  const { params, problems } = paramsOf(fields, entries.value);
  const more = bodyOf(options.value);
  const used = Object.entries(inputs).flatMap(([name, list]) => list.map((index) => ({ name, item: files.value[index] })));
  const uploaded = used.every(({ item }) => item.upload);
  const body = { workload: workload.name, inputs: inputIds(workload, used), params, ...more.body };
  const valid = Object.keys(problems).length + Object.keys(more.problems).length === 0;
  const complete = uploaded && missing.length === 0;
  const price = usePrice(valid ? body : null, complete);
  const text_of_params = JSON.stringify(params);

  useEffect(() => {
    if (may("write")) uploadAll(new Set(used.map(({ item }) => item.key)));
  }, [used.map(({ item }) => item.key).join()]);
  useEffect(() => {
    if (JSON.stringify(given) === text_of_params) return undefined;
    const timer = setTimeout(() => setQuery({ workload: workload.name, params: text_of_params === "{}" ? null : text_of_params }), 400);
    return () => clearTimeout(timer);
  }, [text_of_params]);

  const submit = async () => {
    wanted.value = false;
    submission.value = { busy: true, error: null };
    const content = JSON.stringify(body);
    // The same request sent again, after an answer that was lost, is the same job.
    if (key.current.body !== content) key.current = { body: content, key: `console-${crypto.getRandomValues(new Uint32Array(4)).join("-")}` };
    try {
      const job = await call("POST", "/v1/jobs", { body, idempotencyKey: key.current.key });
      for (const { item } of used) removeFile(item.key);
      go(href("jobs", job.id));
    } catch (error) {
      submission.value = { busy: false, error };
    }
  };
  const ready = valid && complete && workload.available && may("write");
  useEffect(() => {
    if (wanted.value && ready && !submission.value.busy) submit();
  }, [wanted.value, ready]);
  const failed = used.some(({ item }) => ["failed", "stopped"].includes(item.phase.value.name));
  const reason = reasonNotToSubmit({ text, workload, missing, valid, failed });
  const refusals = refusedFields(price.error) ?? refusedFields(submission.value.error) ?? {};
  const picture = used.find(({ item }) => item.file && item.media !== "archive")?.item.file ?? null;
  return html`
    <form class="card" onSubmit=${(event) => (event.preventDefault(), (wanted.value = true))} aria-label=${text.job(workload.title)}>
      <${Price} workload=${workload} price=${price} />
      ${!workload.available && html`<div class="note bad"><p>${text.notAvailable} ${workload.enable}</p></div>`}
      ${submission.value.error && !refusedFields(submission.value.error) && html`<${Problem} error=${submission.value.error} title=${text.notSubmitted} />`}
      <div class="row submit">
        <button class="primary" disabled=${Boolean(reason) || submission.value.busy || wanted.value}>${submission.value.busy ? text.submitting : complete ? text.submit : text.submitLater}</button>
        ${wanted.value && html`<span role="status">${text.waiting}</span><button type="button" onClick=${() => (wanted.value = false)}>${text.doNot}</button>`}
        ${reason && html`<span class="hint">${reason}</span>`}
      </div>
      <h2>${text.parameters}</h2>
      <${ParamsForm} fields=${fields} entries=${entries.value} onEntries=${(changed) => (entries.value = changed)} problems=${problems} refusals=${refusals}
        unavailable=${unavailableOf(workload)} picture=${picture} />
      <${MoreOptions} options=${options.value} onOptions=${(changed) => (options.value = changed)} problems=${more.problems} gpus=${workload.compute.gpus} />
    </form>
    <${Commands} cli=${cliOf(workload, used, params, more.body)} method="POST" path="/v1/jobs" body=${body} />
  `;
}

function reasonNotToSubmit({ text, workload, missing, valid, failed }) {
  if (!may("write")) return text.readOnly;
  if (!workload.available) return text.notAvailable;
  if (missing.length) return text.lacks(text.list(missing.map(({ alternatives, count }) => text.either(alternatives.map(({ media }) => text.media(media, count))))));
  if (!valid) return text.fieldsWrong;
  return failed ? text.uploadsFailed : null;
}

/** Return the ids of the uploads by input, as far as they are known; an input for many files gets a list. */
function inputIds(workload, used) {
  const found = {};
  for (const { name, item } of used) {
    if (!item.upload) continue;
    const many = workload.inputs.find((input) => input.name === name).maximum > 1;
    if (many) (found[name] ??= []).push(item.upload.id);
    else found[name] = item.upload.id;
  }
  return found;
}

function unavailableOf(workload) {
  const found = {};
  for (const { parameter, value, installed } of workload.backends) if (!installed) (found[parameter] ??= []).push(value);
  return found;
}

function cliOf(workload, used, params, { max_cost_usd: cost, gpu, priority }) {
  const paths = used.slice(0, 20).map(({ item }) => quoted(item.file ? `./${item.name}` : item.upload.id));
  const given = Object.entries(params).map(([name, value]) => `-p ${quoted(`${name}=${typeof value === "string" ? value : JSON.stringify(value)}`)}`);
  const more = [cost !== undefined && `--max-cost-usd ${cost}`, gpu && `--gpu ${gpu}`, priority !== undefined && `--priority ${priority}`].filter(Boolean);
  return ["saccade submit", workload.name, ...paths, ...given, ...more, "--watch"].join(" ");
}
