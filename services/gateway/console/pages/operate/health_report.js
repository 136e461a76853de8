// Health of the gateway and of what it depends on.
import { html, useEffect } from "../../vendor/preact.js";
import { client } from "../../api.js";
import { duration } from "../../format.js";
import { Commands } from "../../parts/commands.js";
import { Loaded, useLoaded } from "../../parts/loaded.js";
import { words } from "./words.js";

const REFRESH_MS = 5000;

export function HealthReport() {
  const text = words().health;
  const report = useLoaded(() => client.health(), []);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || report.poll(), REFRESH_MS);
    return () => clearInterval(timer);
  }, []);
  const label = (status) => html`<span class=${`state ${status === "ok" ? "good" : status === "degraded" ? "fair" : "bad"}`}>${text[status] ?? text.failed}</span>`;
  return html`
    <p class="quiet">${text.intro}</p>
    <${Loaded} of=${report}>
      ${(value) => html`
        <section class="card">
          <div class="row between"><h2>${text.gateway}</h2>${label(value.status)}</div>
          <p class="hint">${text.uptime} ${duration(value.uptime_s)}</p>
          <div class="scroll"><table class="cards">
            <thead><tr><th>${text.check}</th><th>${words().state}</th><th>${text.detail}</th><th class="number">${text.took}</th></tr></thead>
            <tbody>
              ${Object.entries(value.checks).map(
                ([name, check]) => html`<tr key=${name}>
                  <td data-label=${text.check}>${name}</td>
                  <td data-label=${words().state}>${label(check.status)}</td>
                  <td data-label=${text.detail}>${check.detail ?? ""}</td>
                  <td class="number" data-label=${text.took}>${duration((check.duration_ms ?? 0) / 1000)}</td>
                </tr>`,
              )}
            </tbody>
          </table></div>
        </section>
      `}
    <//>
    <p class="hint">${text.metrics}</p>
    <${Commands} cli="saccade status" path="/health" />
  `;
}
