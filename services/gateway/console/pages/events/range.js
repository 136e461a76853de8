// A range of events: to replay it, or to export it.
import { html } from "../../vendor/preact.js";
import { may } from "../../api.js";
import { number } from "../../format.js";
import { Commands, quoted } from "../../parts/commands.js";
import { href, setQuery } from "../../router.js";
import { cursorBefore, positionOf } from "./rows.js";
import { words } from "./words.js";

/**
 * Return the commands for a period and a filter: {follow, replay, export}; null where a command has no option for a
 * subject. A cursor's own event is left out by --since.
 */
export function commandsOf({ since, until }, { types, subjects }) {
  const chosen = types.map((type) => ` --type ${quoted(type)}`).join("");
  const of = subjects.map((subject) => ` --subject ${quoted(subject)}`).join("");
  const from = since ? ` --since ${quoted(since)}` : "";
  const to = until ? ` --until ${quoted(until)}` : "";
  const job = subjects.length === 1 && subjects[0].startsWith("job_") ? ` --job ${quoted(subjects[0])}` : "";
  const canChoose = subjects.length === 0 || job;
  return {
    follow: canChoose ? `saccade events --follow${chosen}${from}${job}` : null,
    replay: `saccade replay${from}${to}${chosen}${of} --into sse --why REASON`,
    export: canChoose ? `saccade events export${from}${to}${chosen}${job} events.ndjson.zst` : null,
  };
}

export function Range({ from, to, shown, filter }) {
  const text = words();
  const [first, last] = [positionOf(from), positionOf(to)];
  const query = filter.types.length ? `?types=${filter.types.join(",")}` : "";
  if (!first || !last)
    return html`<${Commands} cli=${commandsOf({}, filter).follow} path=${`/v1/events${query}`} />`;
  const [start, end] = first.sequence <= last.sequence ? [from, to] : [to, from];
  const since = cursorBefore(start);
  const commands = commandsOf({ since, until: end }, filter);
  const inside = shown.filter(({ cursor }) => {
    const at = positionOf(cursor);
    return at && at.sequence >= positionOf(start).sequence && at.sequence <= positionOf(end).sequence;
  }).length;
  const replay = href("operate", "replays", { since, until: end, types: filter.types.join(" "), subjects: filter.subjects.join(" ") });
  return html`
    <section class="card" aria-label=${text.range}>
      <div class="row between"><h2>${text.rangeOf(number(inside))}</h2><button type="button" class="plain" onClick=${() => setQuery({ from: null, to: null })}>${text.rangeClear}</button></div>
      <p class="hint"><code>${start}</code> – <code>${end}</code></p>
      <div class="row">
        ${may("operate") ? html`<a class="button" href=${replay}>${text.replay}</a>` : html`<span class="hint">${text.needsOperate}</span>`}
      </div>
      <${Commands} cli=${[commands.replay, commands.export].filter(Boolean).join("\n")} path="/v1/replays" method="POST"
        body=${{ into: "sse", since, until: end, types: filter.types, subjects: filter.subjects }} />
    </section>
  `;
}
