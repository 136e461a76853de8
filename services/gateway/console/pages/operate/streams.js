// Streams of the bus: how full, how old, and how far archive and view are behind the events.
import { html } from "../../vendor/preact.js";
import { get } from "../../api.js";
import { bytes, dateTime, number, percent, relative } from "../../format.js";
import { Commands } from "../../parts/commands.js";
import { Loaded, useLoaded } from "../../parts/loaded.js";
import { words } from "./words.js";

export function Streams() {
  const text = words().streams;
  const streams = useLoaded((signal) => get("/v1/streams", {}, signal), []);
  return html`
    <p class="quiet">${text.intro}</p>
    <${Loaded} of=${streams}>
      ${(value) => {
        const stored = value.data.find((stream) => stream.name === "EVENTS")?.last_sequence ?? 0;
        return html`
          <div class=${`note ${value.view_behind ? "fair" : "good"}`}>
            <p>${value.view_behind ? text.behind(number(value.view_behind)) : text.view} ${value.archived_until ? text.archived(number(value.archived_until), number(stored)) : text.notArchived}</p>
          </div>
          <div class="scroll"><table class="cards">
            <thead><tr><th>${text.name}</th><th class="number">${text.messages}</th><th class="number">${text.fill}</th><th>${text.oldest}</th><th>${text.edge}</th><th>${text.full}</th></tr></thead>
            <tbody>${value.data.map((stream) => html`<${Row} key=${stream.name} stream=${stream} />`)}</tbody>
          </table></div>
        `;
      }}
    <//>
    <p></p>
    <${Commands} path="/v1/streams" />
  `;
}

function Row({ stream }) {
  const text = words().streams;
  const share = stream.max_bytes ? stream.size_bytes / stream.max_bytes : 0;
  const edge = !stream.oldest_at ? "–" : stream.deletes_in_s === null ? text.never : relative(new Date(Date.now() + stream.deletes_in_s * 1000).toISOString());
  return html`<tr>
    <td data-label=${text.name}><code>${stream.name}</code></td>
    <td class="number" data-label=${text.messages}>${number(stream.messages)}</td>
    <td class="number" data-label=${text.fill}>${stream.max_bytes ? `${text.of(bytes(stream.size_bytes), bytes(stream.max_bytes))} (${percent(share, 1)})` : bytes(stream.size_bytes)}</td>
    <td data-label=${text.oldest} title=${dateTime(stream.oldest_at)}>${stream.oldest_at ? relative(stream.oldest_at) : "–"}</td>
    <td data-label=${text.edge}>${edge}</td>
    <td data-label=${text.full}>${text[stream.when_full]}</td>
  </tr>`;
}
