// The files that were dropped, what they are for, and the form of the job.
import { html, useEffect, useMemo, useSignal } from "../../../vendor/preact.js";
import { get } from "../../../api.js";
import { loadCss } from "../../../parts/load_css.js";
import { Problem } from "../../../parts/problem.js";
import { setQuery } from "../../../router.js";
import { choose } from "../choose.js";
import { files, wanted } from "../file_list.js";
import { FileTiles } from "./file_tiles.js";
import { addUploads, removeAll } from "./files.js";
import { NewJob } from "./new_job.js";
import { giveUp } from "./submission.js";
import { words } from "./words.js";
import { WorkloadChoice } from "./workload_choice.js";

loadCss(import.meta.url, "desk.css");

export function Desk({ workloads, query }) {
  const text = words();
  const source = useEarlierJob(query.get("like"), query.get("inputs"));
  const all = files.value;
  const choice = useMemo(() => choose(workloads, all), [workloads, all]);
  const open = ["waiting", "sending", "failed"].includes(wanted.value?.state) ? wanted.value.name : null;
  const name = query.get("workload") ?? source.value?.workload ?? open ?? choice.chosen;
  const chosen = choice.candidates.find(({ workload }) => workload.name === name) ?? null;
  const pick = (workload) => {
    giveUp();
    setQuery({ workload, params: null });
  };
  const given = paramsGiven(query, source.value);
  return html`
    <div class="desk">
      <div>
        ${source.error && html`<${Problem} error=${source.error} />`}
        <${FileTiles} candidate=${chosen} unsuitable=${choice.unsuitable} />
        ${all.length > 1 && html`<p><button type="button" onClick=${removeAll}>${text.removeAll}</button></p>`}
      </div>
      <div>
        <${WorkloadChoice} choice=${choice} chosen=${chosen} files=${all} onChoose=${pick} />
        ${chosen && html`<${NewJob} key=${`${name} ${source.value?.id ?? ""}`} candidate=${chosen} given=${given} like=${source.value?.id} />`}
      </div>
    </div>
  `;
}

/**
 * Read a job whose inputs and parameters are taken over: the address names it. `renamed` says which input gets which of
 * its inputs, "reference:video,other:video"; without it each gets its own.
 */
function useEarlierJob(jobId, renamed) {
  const found = useSignal({ value: null, error: null });
  useEffect(() => {
    if (!jobId) return undefined;
    let shown = true;
    get(`/v1/jobs/${encodeURIComponent(jobId)}`).then(
      (job) => {
        if (!shown) return;
        const asked = JSON.stringify([jobId, renamed]);
        // Back on this page by the browser's history, files that were added since stay: its entry says whose were added.
        if (history.state?.applied !== asked || files.value.length === 0) {
          history.replaceState({ applied: asked }, "");
          removeAll();
          const uses = renamed ? renamed.split(",").map((pair) => pair.split(":")) : Object.keys(job.inputs).map((name) => [name, name]);
          addUploads(uses.flatMap(([use, from]) => [].concat(job.inputs[from] ?? []).map((input) => ({ ...input, use }))));
        }
        found.value = { value: job, error: null };
      },
      (error) => shown && (found.value = { value: null, error }),
    );
    return () => (shown = false);
  }, [jobId, renamed]);
  return found.value;
}

function paramsGiven(query, job) {
  try {
    const given = JSON.parse(query.get("params") ?? "null");
    if (given && typeof given === "object") return given;
  } catch {
    // Somebody has written it by hand: the form starts with the defaults.
  }
  return job?.params ?? {};
}
