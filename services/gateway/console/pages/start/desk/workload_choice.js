// The workloads that the files could be for, with what speaks for and against each.
import { html } from "../../../vendor/preact.js";
import { needsOf } from "../needs.js";
import { words } from "./words.js";

const NAMES_SHOWN = 3;

/** `choice` is what choose() returned; `chosen` the candidate in use, or null. */
export function WorkloadChoice({ choice, chosen, files, onChoose }) {
  const text = words();
  // Where the choice is certain, the others are folded away.
  const isOffered = (candidate) => (choice.chosen ? candidate.workload.name === choice.chosen : candidate.state !== "no") || candidate === chosen;
  const offered = choice.candidates.filter(isOffered);
  const others = choice.candidates.filter((candidate) => !isOffered(candidate));
  const radio = (candidate) => html`
    <li key=${candidate.workload.name}>
      <label class=${candidate === chosen ? "option chosen" : "option"}>
        <input type="radio" name="workload" value=${candidate.workload.name} checked=${candidate === chosen} onChange=${() => onChoose(candidate.workload.name)} />
        <span><b>${candidate.workload.title}</b> <span class="reason">${reasonOf(candidate, files, text)}</span>
        ${!candidate.workload.available && html`<span class="bad">${text.notAvailable}</span>`}
        ${candidate === chosen && html`<span class="hint">${candidate.workload.description}</span>`}</span>
      </label>
    </li>
  `;
  return html`
    <section class="card" aria-label=${text.whatFor}>
      <h2>${text.questions[chosen ? "chosen" : choice.question](files.length)}</h2>
      <ul class="options">${offered.map(radio)}</ul>
      ${others.length > 0 && html`<details open=${offered.length === 0}><summary>${text.otherWorkloads(others.length)}</summary><ul class="options">${others.map(radio)}</ul></details>`}
    </section>
  `;
}

function reasonOf({ workload, state, inputs, unused, missing }, files, text) {
  const counts = {};
  for (const { name, media } of workload.inputs) if (inputs[name].length) counts[media] = (counts[media] ?? 0) + inputs[name].length;
  const taken = text.list(Object.entries(counts).map(([media, count]) => text.media(media, count)));
  if (state === "no") return text.takesNone(needsOf(workload, text));
  const left = unused.map((index) => files[index].name);
  const leaves = left.length ? ` ${text.leaves(left.slice(0, NAMES_SHOWN), Math.max(0, left.length - NAMES_SHOWN))}` : "";
  if (state === "short") return text.lacks(text.list(missing.map(({ alternatives, count }) => text.either(alternatives.map(({ media }) => text.media(media, count)))))) + leaves;
  return (state === "few" ? text.few(taken) : text.takes(taken)) + leaves;
}
