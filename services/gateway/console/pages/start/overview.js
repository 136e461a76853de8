// What the server can do, for a reader without files.
import { html } from "../../vendor/preact.js";
import { duration, usd } from "../../format.js";
import { CopyButton, quoted } from "../../parts/commands.js";
import { base, href, setQuery } from "../../router.js";
import { common } from "../../words.js";
import { needsOf } from "./needs.js";
import { words } from "./words.js";

/** All workloads, for a reader without files. */
export function Overview({ workloads }) {
  const text = words();
  return html`
    <section aria-label=${text.overview}>
      <h2>${text.overview}</h2>
      <div class="grid">
        ${workloads.map((workload) => html`
          <article key=${workload.name} class="card workload">
            <h3>${workload.title}</h3>
            <p>${workload.description}</p>
            <p class="hint">${workload.kind === "session" ? text.liveCamera : text.needs(needsOf(workload, text))} · ${text.typically(workload.estimate.usd ? usd(workload.estimate.usd) : text.free, duration(workload.estimate.seconds))}</p>
            ${!workload.available && html`<p class="hint bad">${text.notAvailable} ${workload.enable}</p>`}
            ${workload.kind === "session"
              ? html`<a class="button" href=${href("live", { workload: workload.name })}>${text.goLive}</a>`
              : html`<button type="button" onClick=${() => setQuery({ workload: workload.name }, { replace: false })}>${text.choose(workload.title)}</button>`}
          </article>
        `)}
      </div>
    </section>
  `;
}

/** How to get along without files. */
export function Demo() {
  const text = words();
  const command = `saccade demo --url ${quoted(location.origin + base.replace(/\/$/, ""))}`;
  return html`
    <section class="card" aria-label=${text.demo}>
      <h2>${text.demo}</h2>
      <p>${text.demoHint}</p>
      <pre>${command}</pre>
      <${CopyButton} text=${command} />
    </section>
    <p>${common().references}: <a href=${`${base}docs`}>${common().api}</a> · <a href=${`${base}asyncapi`}>${common().eventReference}</a></p>
  `;
}
