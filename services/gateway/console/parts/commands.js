import { html, useSignal } from "../vendor/preact.js";
import { base } from "../router.js";
import { session } from "../api.js";
import { common } from "../words.js";

/** What the page shows or does, as a command line and as a request with curl. `body` is JSON for curl. */
export function Commands({ cli, method = "GET", path, body }) {
  const words = common();
  const key = session.value?.key_id ? ' -H "Authorization: Bearer $SACCADE_API_KEY"' : "";
  const verb = method === "GET" ? "" : ` -X ${method}`;
  const data = body === undefined ? "" : ` -H "Content-Type: application/json" -d ${quoted(JSON.stringify(body))}`;
  const curl = `curl${verb}${key}${data} ${quoted(location.origin + base + path.slice(1))}`;
  return html`
    <details class="commands">
      <summary>${words.asCommand}</summary>
      ${cli && html`<${Command} label=${words.cli} text=${cli} />`}
      <${Command} label=${words.curl} text=${curl} />
    </details>
  `;
}

function Command({ label, text }) {
  return html`<div><span class="hint">${label}</span> <${CopyButton} text=${text} /><pre>${text}</pre></div>`;
}

/** A button that copies a text. */
export function CopyButton({ text, label }) {
  const words = common();
  const copied = useSignal(false);
  // Browsers have no clipboard for pages by http from another machine: the text stays there to be selected.
  if (!navigator.clipboard) return null;
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    copied.value = true;
    setTimeout(() => (copied.value = false), 1500);
  };
  return html`<button type="button" class="plain" onClick=${copy}>${copied.value ? words.copied : (label ?? words.copy)}</button>`;
}

/** Quote a text for a POSIX shell. */
export const quoted = (text) => (/^[\w./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
