// Form of a new endpoint, or of the changes to one.
import { html, useSignal } from "../../vendor/preact.js";
import { call } from "../../api.js";
import { Commands, quoted } from "../../parts/commands.js";
import { Problem } from "../../parts/problem.js";
import { bodyOf, changesOf, commandOf, fieldsOf } from "./form.js";
import { words } from "./words.js";

const FORMATS = ["cloudevents", "poke", "slack", "text", "email"];

/** `endpoint` is null for a new one; `onDone` gets the server's answer, or null after "Cancel". */
export function EndpointForm({ endpoint, onDone }) {
  const text = words();
  const fields = useSignal(fieldsOf(endpoint));
  const error = useSignal(null);
  const busy = useSignal(false);
  const now = fields.value;
  const body = endpoint ? changesOf(endpoint, now) : bodyOf(now);
  const path = endpoint ? `/v1/webhooks/${endpoint.id}` : "/v1/webhooks";
  const set = (name) => (event) => {
    const { type, checked, value } = event.target;
    fields.value = { ...fields.value, [name]: type === "checkbox" ? checked : value };
  };
  const send = async (event) => {
    event.preventDefault();
    busy.value = true;
    error.value = null;
    try {
      onDone(await call(endpoint ? "PATCH" : "POST", path, { body }));
    } catch (problem) {
      error.value = problem;
    }
    busy.value = false;
  };
  const field = (name, input, hint) => html`<label class="field"><span>${text.fields[name]}</span>${input}${hint && html`<span class="hint">${hint}</span>`}</label>`;
  const line = (name, more = {}) => html`<input name=${name} value=${now[name]} onInput=${set(name)} autocomplete="off" spellcheck="false" ...${more} />`;
  const choice = (name, values, labels) => html`<select name=${name} value=${now[name]} onChange=${set(name)}>${values.map((value) => html`<option key=${value} value=${value}>${labels?.[value] ?? value}</option>`)}</select>`;
  return html`
    <form class="card endpoint-form" onSubmit=${send}>
      <h2>${endpoint ? text.change : text.create}</h2>
      ${field("url", line("url", { required: true, placeholder: "https://example.com/hooks/saccade", maxlength: 2048 }), text.urlHint)}
      ${field("types", line("types", { placeholder: "job.succeeded, job.failed" }), text.typesHint)}
      ${field("description", line("description", { maxlength: 500 }))}
      <details open=${Boolean(endpoint)}>
        <summary>${text.more}</summary>
        ${field("format", choice("format", FORMATS, text.formats))}
        ${now.format !== "cloudevents" && field("template", html`<textarea name="template" rows="3" value=${now.template} onInput=${set("template")}></textarea>`, text.templateHint)}
        ${now.format === "email" && field("subject", line("subject"))}
        ${field("signing", choice("signing", ["v1", "v1a", "both"], text.signings))}
        ${field("rate_per_s", line("rate_per_s", { inputmode: "decimal", pattern: "[0-9]*[.]?[0-9]*" }), text.rateHint)}
        ${field("headers", html`<textarea name="headers" rows="2" value=${now.headers} onInput=${set("headers")} placeholder="Authorization: Bearer …"></textarea>`, endpoint?.header_names.length ? text.headersKept(endpoint.header_names.join(", ")) : text.headersHint)}
        <label class="row"><input type="checkbox" name="ordered" checked=${now.ordered} onChange=${set("ordered")} /> ${text.fields.ordered}</label>
      </details>
      ${error.value && html`<${Problem} error=${error.value} />`}
      <div class="row end">
        <button type="button" onClick=${() => onDone(null)}>${text.cancel}</button>
        <button class="primary" disabled=${busy.value || Object.keys(body).length === 0}>${endpoint ? text.save : text.create}</button>
      </div>
      <${Commands} cli=${endpoint ? undefined : commandOf(body, quoted)} method=${endpoint ? "PATCH" : "POST"} path=${path} body=${body} />
    </form>
  `;
}
