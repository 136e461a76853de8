// What a server refuses, by parameter.

/** Return the texts of a refusal by the name of the parameter that it is about; null if it is about something else. */
export function refusedFields(error) {
  const errors = error?.problem?.errors ?? [];
  const found = {};
  for (const { pointer, detail } of errors) {
    const name = /^#\/params\/([^/]+)/.exec(pointer ?? "")?.[1];
    if (!name) return null;
    found[name] ??= detail;
  }
  return errors.length ? found : null;
}
