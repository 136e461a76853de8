// Jobs, and one job.
import { html } from "../../vendor/preact.js";
import { loadCss } from "../../parts/load_css.js";
import { JobPage } from "./job/job.js";
import { JobsPage } from "./list/list.js";

loadCss(import.meta.url);

export default function Jobs({ path, query }) {
  return path[0] ? html`<${JobPage} key=${path[0]} jobId=${path[0]} query=${query} />` : html`<${JobsPage} query=${query} />`;
}
