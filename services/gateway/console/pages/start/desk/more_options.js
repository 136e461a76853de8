// What few jobs need: a limit of the cost, a GPU, priority, metadata and a webhook. Folded away.
import { html } from "../../../vendor/preact.js";
import { words } from "./words.js";

export const NO_OPTIONS = { maxCost: "", gpu: "", priority: "", metadata: "", webhook: "" };

/** Return the parts of a job's body that the options say, and what cannot be read: {body, problems}. */
export function bodyOf(options) {
  const problems = {};
  const body = {};
  const cost = numberOf(options.maxCost);
  if (options.maxCost.trim()) cost >= 0 ? (body.max_cost_usd = cost) : (problems.maxCost = "amount");
  const priority = numberOf(options.priority);
  if (options.priority.trim()) Number.isInteger(priority) && Math.abs(priority) <= 10 ? (body.priority = priority) : (problems.priority = "priority");
  if (options.gpu) body.gpu = options.gpu;
  if (options.webhook.trim()) /^https?:\/\/\S+$/.test(options.webhook.trim()) ? (body.webhook_url = options.webhook.trim()) : (problems.webhook = "webhook");
  const lines = options.metadata.split("\n").filter((line) => line.trim());
  const pairs = lines.map((line) => /^([^=]+)=(.*)$/.exec(line)?.slice(1).map((part) => part.trim()));
  if (pairs.some((pair) => !pair?.[0])) problems.metadata = "metadata";
  else if (pairs.length) body.metadata = Object.fromEntries(pairs);
  return { body, problems };
}

const numberOf = (text) => Number(text.trim().replace(",", "."));

export function MoreOptions({ options, onOptions, problems, gpus }) {
  const text = words();
  const field = (name, control) => html`
    <label class="field"><span>${text.options[name]}</span>${control}
      <span class="hint">${problems[name] ? html`<b class="bad" role="alert">${text.wrongOptions[problems[name]]}</b>` : text.optionHints[name]}</span></label>
  `;
  const set = (name) => (event) => onOptions({ ...options, [name]: event.target.value });
  const input = (name, more) => html`<input type="text" autocomplete="off" value=${options[name]} onInput=${set(name)} ...${more} />`;
  return html`
    <details class="folded" open=${Object.keys(problems).length > 0 || undefined}>
      <summary>${text.more}</summary>
      <div class="fields">
        ${field("maxCost", input("maxCost", { inputmode: "decimal" }))}
        ${gpus.length > 0 && field("gpu", html`<select value=${options.gpu} onChange=${set("gpu")}><option value="">${text.anyGpu}</option>${gpus.map((gpu) => html`<option key=${gpu} value=${gpu}>${gpu}</option>`)}</select>`)}
        ${field("priority", input("priority", { inputmode: "numeric", placeholder: "0" }))}
        ${field("webhook", input("webhook", { inputmode: "url", placeholder: "https://" }))}
        ${field("metadata", html`<textarea rows="2" value=${options.metadata} onInput=${set("metadata")} placeholder="lap=7"></textarea>`)}
      </div>
    </details>
  `;
}
