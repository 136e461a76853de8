// The form of a new job: parameters, options, price and the button that submits.
import { html, useEffect, useMemo, useRef, useSignal } from "../../../vendor/preact.js";
import { call, may } from "../../../api.js";
import { Commands, quoted } from "../../../parts/commands.js";
import { ParamsForm } from "../../../parts/params/fields.js";
import { entriesOf, fieldsOf, paramsOf, same } from "../../../parts/params/form.js";
import { Problem } from "../../../parts/problem.js";
import { go, href, setQuery } from "../../../router.js";
import { files } from "../file_list.js";
import { removeFile, uploadAll } from "./files.js";
import { bodyOf, MoreOptions, NO_OPTIONS } from "./more_options.js";
import { fieldsOf as refusedFields, Price, usePrice } from "./price.js";
import { words } from "./words.js";

/**
 * `candidate` is the chosen workload with its files; `given` are parameters to begin with, and `like` is the job that
 * they are from.
 */
export function NewJob({ candidate, given, like }) {
  const text = words();
  const { workload, inputs, missing } = candidate;
  const fields = useMemo(() => fieldsOf(workload.params_schema), [workload]);
  const entries = useSignal(null);
  entries.value ??= entriesOf(fields, withoutDefaults(fields, given));
  const options = useSignal(like ? { ...NO_OPTIONS, metadata: `like=${like}` } : NO_OPTIONS);
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
  // A key that may not submit may not ask either.
  const price = usePrice(valid && may("write") ? body : null, complete);
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
  const refusals = refusedFields(price.error) ?? refusedFields(submission.value.error) ?? {};
  const reason = reasonNotToSubmit({ text, workload, missing, valid: valid && !refusedFields(price.error), failed });
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

const withoutDefaults = (fields, values) => {
  const kept = fields.filter(({ name, ...field }) => name in values && !("default" in field && same(field.default, values[name])));
  return Object.fromEntries(kept.map(({ name }) => [name, values[name]]));
};

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
