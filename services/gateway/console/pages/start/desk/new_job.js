// The form of a new job: parameters, options, price and the button that submits.
import { html, useEffect, useMemo, useRef, useSignal } from "../../../vendor/preact.js";
import { may } from "../../../api.js";
import { Commands, quoted } from "../../../parts/commands.js";
import { ParamsForm } from "../../../parts/params/fields.js";
import { entriesOf, fieldsOf, paramsOf, same } from "../../../parts/params/form.js";
import { refusedFields } from "../../../parts/params/refusals.js";
import { Problem } from "../../../parts/problem.js";
import { setQuery } from "../../../router.js";
import { files, wanted } from "../file_list.js";
import { startUpload, uploadAll } from "./files.js";
import { bodyOf as optionsOf, MoreOptions, NO_OPTIONS } from "./more_options.js";
import { Price, PriceDetails, usePrice } from "./price.js";
import { bodyOf, giveUp, want } from "./submission.js";
import { words } from "./words.js";

/**
 * `candidate` is the chosen workload with its files; `given` are parameters to begin with, and `like` is the job that
 * they are from.
 */
export function NewJob({ candidate, given, like }) {
  const text = words();
  const { workload, inputs, missing } = candidate;
  const mine = wanted.value?.name === workload.name && wanted.value.state !== "done" ? wanted.value : null;
  const fields = useMemo(() => fieldsOf(workload.params_schema), [workload]);
  // A job that waits was wanted with what its form had, also if another page was shown meanwhile.
  const begun = useMemo(() => ({ params: mine?.params ?? given, options: mine?.options ?? (like ? { ...NO_OPTIONS, metadata: `like=${like}` } : NO_OPTIONS) }), []);
  const entries = useSignal(null);
  entries.value ??= entriesOf(fields, withoutDefaults(fields, begun.params));
  const options = useSignal(begun.options);
  const { params, problems } = paramsOf(fields, entries.value);
  const more = optionsOf(options.value);
  const used = Object.entries(inputs).flatMap(([name, list]) => list.map((index) => ({ name, item: files.value[index] })));
  const job = { name: workload.name, title: workload.title, workload, used: used.map(({ name, item }) => ({ name, key: item.key })), params, options: options.value };
  const body = bodyOf(job);
  const content = JSON.stringify(body);
  const valid = Object.keys(problems).length + Object.keys(more.problems).length === 0;
  const complete = used.every(({ item }) => item.upload) && missing.length === 0;
  // A key that may not submit may not ask either.
  const price = usePrice(valid && may("write") ? body : null, complete);
  const text_of_params = JSON.stringify(params);

  useEffect(() => {
    if (may("write")) uploadAll(new Set(job.used.map(({ key }) => key)));
  }, [job.used.map(({ key }) => key).join()]);
  useEffect(() => {
    if (JSON.stringify(given) === text_of_params) return undefined;
    const timer = setTimeout(() => setQuery({ workload: workload.name, params: text_of_params === "{}" ? null : text_of_params }), 400);
    return () => clearTimeout(timer);
  }, [text_of_params]);

  const halted = used.map(({ item }) => item).filter(({ phase }) => ["failed", "stopped"].includes(phase.value.name));
  const error = mine?.state === "failed" && mine.content === content ? mine.error : null;
  const named = namedIn(fields, error);
  // What the server has said of earlier parameters stops nobody: it is asked about these.
  const refusals = named ?? (price.asking ? null : refusedFields(price.error)) ?? {};
  const reason = reasonNotToSubmit({ text, workload, missing, valid: valid && (price.asking || !refusedFields(price.error)) });
  const state = mine?.state === "waiting" || mine?.state === "sending" ? mine.state : "";
  const hint = reason ?? (halted.length ? text.uploadsFailed : state === "waiting" ? text.waiting : null);
  const isFirst = useRef(true);
  useEffect(() => {
    // What is changed while the job waits for its uploads counts.
    if (!isFirst.current && state === "waiting") reason ? giveUp() : want(job);
    isFirst.current = false;
  }, [JSON.stringify([job.used, params, options.value]), reason]);
  const press = (event) => {
    event.preventDefault();
    if (reason || state === "sending") return;
    halted.forEach(startUpload);
    want(job);
  };
  const label = state === "sending" ? text.submitting : halted.length ? text.resume : complete ? text.submit : text.submitLater;
  const picture = used.find(({ item }) => item.file && item.media !== "archive")?.item.file ?? null;
  const pictures = used.filter(({ name, item }) => name !== "masks" && item.file && item.media === "image").map(({ item }) => ({ name: item.name, file: item.file }));
  return html`
    <form class="card" onSubmit=${press} aria-label=${text.job(workload.title)}>
      <${Price} workload=${workload} price=${price}>
        <button class="primary" disabled=${Boolean(reason) || state === "sending" || (state === "waiting" && halted.length === 0)}>${label}</button>
      <//>
      ${(hint || state === "waiting") &&
      html`<p class="row why"><span role="status">${hint}</span>${state === "waiting" && html`<button type="button" onClick=${giveUp}>${text.doNot}</button>`}</p>`}
      ${!workload.available && html`<div class="note bad"><p>${text.notAvailable} ${workload.enable}</p></div>`}
      ${error && !named && html`<${Problem} error=${error} title=${text.notSubmitted} />`}
      <${PriceDetails} workload=${workload} price=${price} />
      <h2>${text.parameters}</h2>
      <${ParamsForm} fields=${fields} entries=${entries.value} onEntries=${(changed) => (entries.value = changed)} problems=${problems} refusals=${refusals}
        unavailable=${unavailableOf(workload)} picture=${picture} pictures=${pictures} />
      <${MoreOptions} options=${options.value} onOptions=${(changed) => (options.value = changed)} problems=${more.problems} gpus=${workload.compute.gpus} />
    </form>
    <${Commands} cli=${cliOf(workload, used, params, more.body)} method="POST" path="/v1/jobs" body=${body} />
  `;
}

/** Return the texts of a refusal by field if each is about a field that is shown; null else. */
function namedIn(fields, error) {
  const refused = refusedFields(error);
  return refused && Object.keys(refused).every((name) => fields.some((field) => field.name === name)) ? refused : null;
}

const MOST_FILES_IN_COMMAND = 20;

const withoutDefaults = (fields, values) => {
  const kept = fields.filter(({ name, ...field }) => name in values && !("default" in field && same(field.default, values[name])));
  return Object.fromEntries(kept.map(({ name }) => [name, values[name]]));
};

/** Return why the job cannot be wanted as it is; null if only its uploads are missing. */
function reasonNotToSubmit({ text, workload, missing, valid }) {
  if (!may("write")) return text.readOnly;
  if (!workload.available) return text.notAvailable;
  if (missing.length) return text.lacks(text.list(missing.map(({ alternatives, count }) => text.either(alternatives.map(({ media }) => text.media(media, count))))));
  return valid ? null : text.fieldsWrong;
}

function unavailableOf(workload) {
  const found = {};
  for (const { parameter, value, installed } of workload.backends) if (!installed) (found[parameter] ??= []).push(value);
  return found;
}

/** Return the command that submits the same job; undefined if it would not be the same, or too long to read. */
function cliOf(workload, used, params, { max_cost_usd: cost, gpu, priority, metadata, webhook_url: webhook }) {
  if (used.length > MOST_FILES_IN_COMMAND || metadata || webhook) return undefined;
  const paths = used.map(({ item }) => quoted(item.file ? `./${item.name}` : item.upload.id));
  const given = Object.entries(params).map(([name, value]) => `-p ${quoted(`${name}=${typeof value === "string" ? value : JSON.stringify(value)}`)}`);
  const more = [cost !== undefined && `--max-cost-usd ${cost}`, gpu && `--gpu ${gpu}`, priority !== undefined && `--priority ${priority}`].filter(Boolean);
  return ["saccade submit", workload.name, ...paths, ...given, ...more, "--watch"].join(" ");
}
