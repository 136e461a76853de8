// Dead letters: groups of the same error, letters, one letter with its event, and acts on one or on all that match.
import { html, useSignal } from "../../vendor/preact.js";
import { call, get } from "../../api.js";
import { dateTime, number, relative } from "../../format.js";
import { Commands } from "../../parts/commands.js";
import { Loaded, useLoaded } from "../../parts/loaded.js";
import { usePlan } from "../../parts/plan.js";
import { Problem } from "../../parts/problem.js";
import { addressOfId } from "../../object_address.js";
import { href, setQuery } from "../../router.js";
import { WhyDialog } from "./why_dialog.js";
import { words } from "./words.js";

const KINDS = ["event", "delivery", "job"];

export function DeadLetters({ id, query }) {
  return id ? html`<${Letter} id=${id} />` : html`<${Letters} query=${query} />`;
}

function Letters({ query }) {
  const all = words();
  const text = all.letters;
  const filter = { kind: query.get("kind"), group: query.get("group"), error: query.get("error") };
  const everyState = query.get("all") === "1";
  const given = Object.fromEntries(Object.entries(filter).filter(([, value]) => value));
  const letters = useLoaded((signal) => get("/v1/dead-letters", { ...given, every_state: everyState || undefined, limit: 50 }, signal), [query.toString()]);
  const bulk = useSignal(null);
  const plan = useSignal(query.get("plan"));
  return html`
    <p class="quiet">${text.intro}</p>
    <div class="row" role="group" aria-label=${all.type}>
      ${[null, ...KINDS].map(
        (kind) => html`<button key=${kind} type="button" aria-pressed=${(filter.kind ?? null) === kind} onClick=${() => setQuery({ kind, group: null })}>
          ${kind ? text.kinds[kind] : text.all}${kind && letters.value ? ` (${number(letters.value.by_kind[kind] ?? 0)})` : ""}
        </button>`,
      )}
      <input type="search" aria-label=${text.search} placeholder=${text.search} value=${filter.error ?? ""} onChange=${(event) => setQuery({ error: event.target.value })} />
      <label class="chip"><input type="checkbox" checked=${everyState} onChange=${(event) => setQuery({ all: event.target.checked ? "1" : null })} /> ${text.everyState}</label>
    </div>
    <p></p>
    ${plan.value && html`<${PlanProgress} id=${plan.value} onEnd=${letters.reload} />`}
    <${Loaded} of=${letters}>
      ${({ data, count, groups }) =>
        data.length
          ? html`
              ${groups.length > 1 && html`<${Groups} groups=${groups} />`}
              ${!everyState && html`<div class="row end">
                <button type="button" onClick=${() => (bulk.value = "redrive")}>${text.redriveAll(number(count))}</button>
                <button type="button" class="danger" onClick=${() => (bulk.value = "discard")}>${text.discardAll(number(count))}</button>
              </div><p></p>`}
              <${LetterTable} letters=${data} />
              ${count > data.length && html`<p class="hint">${text.newest(number(data.length), number(count))}</p>`}
            `
          : html`<div class="empty"><h2>${text.none}</h2><p>${text.noneHint}</p></div>`}
    <//>
    ${bulk.value && html`<${BulkDialog} action=${bulk.value} count=${letters.value.count} filter=${given} onRetry=${letters.reload} onClose=${(made) => {
      bulk.value = null;
      if (made) {
        plan.value = made.id;
        setQuery({ plan: made.id });
      }
    }} />`}
    <p></p>
    <${Commands} cli=${`saccade deadletters ls${filter.kind ? ` --kind ${filter.kind}` : ""}`} path=${`/v1/dead-letters${filter.kind ? `?kind=${filter.kind}` : ""}`} />
  `;
}

function Groups({ groups }) {
  const all = words();
  return html`
    <section class="card">
      <h2>${all.letters.groups}</h2>
      <div class="scroll"><table class="cards">
        <thead><tr><th>${all.error}</th><th>${all.service}</th><th class="number">${all.count}</th><th>${all.when}</th></tr></thead>
        <tbody>
          ${groups.map(
            (group) => html`<tr key=${group.id}>
              <td data-label=${all.error}><a href=${href("operate", "deadletters", { group: group.id })}>${group.error}</a></td>
              <td data-label=${all.service}>${group.service}</td>
              <td class="number" data-label=${all.count}>${number(group.count)}</td>
              <td data-label=${all.when}>${relative(group.newest)}</td>
            </tr>`,
          )}
        </tbody>
      </table></div>
    </section>
  `;
}

function LetterTable({ letters }) {
  const all = words();
  return html`
    <div class="scroll"><table class="cards">
      <thead><tr><th>${all.when}</th><th>${all.type}</th><th>${all.error}</th><th>${all.subject}</th><th>${all.tenant}</th><th>${all.state}</th></tr></thead>
      <tbody>
        ${letters.map(
          (letter) => html`<tr key=${letter.id}>
            <td data-label=${all.when}><a href=${href("operate", "deadletters", letter.id)} title=${dateTime(letter.time)}>${relative(letter.time)}</a></td>
            <td data-label=${all.type}><code class="whole">${letter.type}</code></td>
            <td data-label=${all.error}>${letter.error}</td>
            <td data-label=${all.subject}><code>${letter.subject}</code></td>
            <td data-label=${all.tenant}>${letter.tenant}</td>
            <td data-label=${all.state}>${all.letters.states[letter.state] ?? letter.state}</td>
          </tr>`,
        )}
      </tbody>
    </table></div>
  `;
}

function BulkDialog({ action, count, filter, onRetry, onClose }) {
  const text = words().letters;
  const error = useSignal(null);
  const run = async (why) => {
    if (why === null) return onClose(null);
    try {
      const body = { ...filter, action, why, expected_count: count };
      onClose(await call("POST", "/v1/dead-letter-plans", { body }));
    } catch (problem) {
      error.value = problem;
    }
    return undefined;
  };
  const title = action === "redrive" ? text.redriveAll(number(count)) : text.discardAll(number(count));
  const retry = () => {
    error.value = null;
    // It may have been refused because of the count.
    onRetry();
  };
  if (error.value) return html`<${Problem} error=${error.value} retry=${retry} />`;
  return html`<${WhyDialog} title=${title} confirm=${title} danger=${action === "discard"} onClose=${run}><p>${text.confirm(number(count))}</p><//>`;
}

function PlanProgress({ id, onEnd }) {
  const text = words().letters;
  const plan = usePlan(`/v1/dead-letter-plans/${id}`, onEnd);
  if (plan.error) return html`<${Problem} error=${plan.error} retry=${plan.retry} />`;
  if (!plan.value) return null;
  const { done, count, failed, skipped, state } = plan.value;
  return html`<div class=${`note ${failed ? "fair" : "good"}`} role="status">
    <p>${text.planned(number(done), number(count), number(failed), number(skipped))}</p>
    ${state === "running" && html`<progress max=${count} value=${done + failed + skipped} aria-label=${text.planned(done, count, failed, skipped)} />`}
  </div>`;
}

function Letter({ id }) {
  const all = words();
  const text = all.letters;
  const letter = useLoaded((signal) => get(`/v1/dead-letters/${id}`, {}, signal), [id]);
  const asked = useSignal(null);
  const error = useSignal(null);
  const act = async (why) => {
    const verb = asked.value;
    asked.value = null;
    if (why === null) return;
    error.value = null;
    try {
      await call("POST", `/v1/dead-letters/${id}/${verb}`, { body: { why }, timeoutMs: 60_000 });
    } catch (problem) {
      error.value = problem;
    }
    letter.reload();
  };
  return html`
    <p><a href=${href("operate", "deadletters")}>← ${text.back}</a></p>
    ${error.value && html`<${Problem} error=${error.value} />`}
    <${Loaded} of=${letter}>
      ${(value) => html`
        <section class="card">
          <div class="row between"><h2>${value.error}</h2><span class="chip">${text.states[value.state] ?? value.state}</span></div>
          <dl class="rows">
            <dt>${all.when}</dt><dd>${dateTime(value.time)}</dd>
            <dt>${all.type}</dt><dd><code>${value.type}</code></dd>
            <dt>${all.subject}</dt><dd><a href=${addressOfId(value.subject) ?? href("events", { subject: value.subject })}><code>${value.subject}</code></a></dd>
            <dt>${all.service}</dt><dd>${value.service}</dd>
            <dt>${all.tenant}</dt><dd>${value.tenant}</dd>
          </dl>
          <p></p>
          <div class="row">
            <button type="button" class="primary" disabled=${!value.redrive} onClick=${() => (asked.value = "redrive")}>${text.redrive}</button>
            <button type="button" class="danger" onClick=${() => (asked.value = "discard")}>${text.discard}</button>
            ${!value.redrive && html`<span class="hint">${text.noCommand}</span>`}
          </div>
        </section>
        <section class="card"><h2>${text.event}</h2><pre>${JSON.stringify(value.event, null, 2)}</pre></section>
        ${value.acts.length > 0 && html`<section class="card"><h2>${text.acts}</h2>
          ${value.acts.map((done) => html`<p key=${done.record}><b>${done.verb}</b> · ${dateTime(done.time)} · ${done.by} · ${done.why}</p>`)}
        </section>`}
      `}
    <//>
    ${asked.value && html`<${WhyDialog} title=${text[asked.value]} confirm=${text[asked.value]} danger=${asked.value === "discard"} onClose=${act} />`}
    <${Commands} cli=${`saccade deadletters show ${id}`} path=${`/v1/dead-letters/${id}`} />
  `;
}
