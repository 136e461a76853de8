// Filters of the list of jobs: between the address and the API. No document.

export const STATES = ["submitted", "queued", "starting", "waiting_for_gpu", "running", "interrupted", "retrying", "succeeded", "failed", "cancelled"];
const SINGLE = ["workload", "rule", "pipeline", "plan", "q", "at"];

/** Return the filters of an address: {state: [...], workload, since, until, rule, pipeline, plan, q, at}. */
export function filtersOf(query) {
  const found = { state: query.getAll("state").filter((state) => STATES.includes(state)) };
  for (const name of SINGLE) if (query.get(name)) found[name] = query.get(name);
  for (const name of ["since", "until"]) {
    const time = query.get(name);
    if (time && !Number.isNaN(Date.parse(time))) found[name] = new Date(time).toISOString();
  }
  return found;
}

/** Return what the API takes for filters; states are a list, which the client sends one by one. */
export function queryOf(filters, without = []) {
  const entries = Object.entries(filters).filter(([name, value]) => !without.includes(name) && value?.length);
  return Object.fromEntries(entries);
}

const OPTIONS = { workload: "--workload", state: "--state", q: "--search", at: "--at" };

/** Return the command line of the list, or null where the command has no option for a filter. */
export function commandOf(filters) {
  const sent = queryOf(filters);
  if (filters.state.length > 1 || Object.keys(sent).some((name) => !(name in OPTIONS))) return null;
  return ["saccade jobs", ...Object.entries(sent).map(([name, value]) => `${OPTIONS[name]} ${quoted(String(value))}`)].join(" ");
}

/** Quote a text for a POSIX shell. */
const quoted = (text) => (/^[\w./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
