// What a workload takes, in words.

/** Return what a workload needs, in words: "2 videos", "photos, or a ZIP, or a video". */
export function needsOf(workload, text) {
  const alternatives = new Set(workload.one_of.flat());
  const counts = {};
  for (const { name, media, minimum } of workload.inputs) if (!alternatives.has(name)) counts[media] = (counts[media] ?? 0) + minimum;
  const fixed = Object.entries(counts).flatMap(([media, count]) => (count ? [text.media(media, count)] : []));
  const optional = workload.inputs.filter(({ name, minimum }) => !minimum && !alternatives.has(name));
  const sets = workload.one_of.map((names) => text.either(names.map((name) => {
    const input = workload.inputs.find((one) => one.name === name);
    return text.media(input.media, input.maximum > 1 ? null : 1);
  })));
  const parts = [...fixed, ...sets];
  if (parts.length === 0 && optional.length) return text.optionally(text.media(optional[0].media, optional[0].maximum > 1 ? null : 1));
  return parts.length ? text.list(parts) : text.noFiles;
}
