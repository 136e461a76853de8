// What has become of a job that was wanted on the Start page, told on the others.
import { html } from "../vendor/preact.js";
import { wanted } from "../pages/start/file_list.js";
import { href } from "../router.js";
import { common } from "../words.js";
import { Problem } from "./problem.js";

export function WantedJob() {
  const job = wanted.value;
  if (!job) return null;
  const words = common().wanted;
  if (job.state === "failed") return html`<${Problem} error=${job.error} title=${words.failed(job.title)} /><p><a href=${href({ workload: job.name })}>${words.back}</a></p>`;
  const link = job.state === "done" ? html`<a href=${href("jobs", job.id)} onClick=${() => (wanted.value = null)}>${words.open}</a>` : html`<a href=${href({ workload: job.name })}>${words.back}</a>`;
  return html`<p class="note" role="status">${words[job.state](job.title)} ${link}</p>`;
}
