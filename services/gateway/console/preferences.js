// What a reader has chosen for this browser: language, colours, time zone. Nothing here identifies anybody.
import { computed, effect, signal } from "./vendor/preact.js";

export const LANGUAGES = { en: "English", de: "Deutsch" };

function stored(name, allowed, otherwise) {
  let value = null;
  try {
    value = localStorage.getItem(`saccade.${name}`);
  } catch {
    // A browser without storage: the choice lasts as long as the page.
  }
  const chosen = signal(allowed.includes(value) ? value : otherwise);
  effect(() => {
    const now = chosen.value;
    try {
      localStorage.setItem(`saccade.${name}`, now);
    } catch {
      // As above.
    }
  });
  return chosen;
}

const preferred = navigator.languages.map((tag) => tag.slice(0, 2)).find((tag) => tag in LANGUAGES) ?? "en";

/** "en", "de"; "pseudo" shows each text longer and in brackets, which finds texts that were not translated. */
export const language = stored("language", [...Object.keys(LANGUAGES), "pseudo"], preferred);
/** The language in which the server is asked for texts. */
export const spoken = computed(() => (language.value in LANGUAGES ? language.value : "en"));
/** "system", "light" or "dark". */
export const theme = stored("theme", ["system", "light", "dark"], "system");
/** "local" or "utc". */
export const zone = stored("zone", ["local", "utc"], "local");

effect(() => {
  document.documentElement.lang = language.value === "pseudo" ? "en" : language.value;
  if (theme.value === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
});
