import { html } from "../../vendor/preact.js";
import { CopyButton } from "../../parts/commands.js";
import { route, setQuery } from "../../router.js";
import { LANGUAGES, SNIPPETS } from "./snippets.js";
import { words } from "./words.js";

/** Code that checks a signature, in the language that the address names. */
export function Verify({ open = false }) {
  const text = words();
  const asked = route.value.query.get("snippet");
  const language = asked in SNIPPETS ? asked : "python";
  return html`
    <details class="card verify" open=${open || asked !== null}>
      <summary><h2>${text.verify}</h2></summary>
      <p class="hint">${text.verifyHint}</p>
      <div class="row" role="group" aria-label=${text.language}>
        ${Object.entries(LANGUAGES).map(([name, label]) => html`<button type="button" key=${name} aria-pressed=${name === language} onClick=${() => setQuery({ snippet: name })}>${label}</button>`)}
        <${CopyButton} text=${SNIPPETS[language]} />
      </div>
      <pre class="code" tabindex="0" data-snippet=${language} aria-label=${text.verify}>${SNIPPETS[language]}</pre>
    </details>
  `;
}
