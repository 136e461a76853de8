// What operators do: dead letters, replays, spend, audit log, health. The tab is the address's second segment.
import { html } from "../../vendor/preact.js";
import { may } from "../../api.js";
import { href } from "../../router.js";
import { AuditLog } from "./audit_log.js";
import { DeadLetters } from "./dead_letters.js";
import { HealthReport } from "./health_report.js";
import { Replays } from "./replays.js";
import { Spend } from "./spend.js";
import { Streams } from "./streams.js";
import { words } from "./words.js";

const TABS = { deadletters: DeadLetters, replays: Replays, spend: Spend, audit: AuditLog, streams: Streams, health: HealthReport };

export default function Operate({ path, query }) {
  const text = words();
  const tab = path[0] in TABS ? path[0] : "deadletters";
  if (!may("operate")) return html`<h1>${text.title}</h1><div class="note fair"><p>${text.noScope}</p></div>`;
  return html`
    <div class="page-head"><div><h1>${text.title}</h1></div></div>
    <nav class="tabs" aria-label=${text.title}>
      ${Object.keys(TABS).map((name) => html`<a key=${name} href=${href("operate", name)} aria-current=${name === tab ? "page" : undefined}>${text.tabs[name]}</a>`)}
    </nav>
    <${TABS[tab]} id=${path[1]} query=${query} />
  `;
}
