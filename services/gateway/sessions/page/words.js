// Texts of the page in the reader's language. A text is its own name: English is what stands in the pages and modules.
import { GERMAN } from "./words_de.js";

const STORED = "saccade.language"; // as the console stores what was chosen there

function chosenLanguage() {
  try {
    const stored = localStorage.getItem(STORED);
    if (stored === "de" || stored === "en") return stored;
  } catch {
    // A browser without storage: what it prefers counts.
  }
  return navigator.languages.map((tag) => tag.slice(0, 2)).find((tag) => tag === "de" || tag === "en") ?? "en";
}

export const language = chosenLanguage();

// The text in the reader's language; {0}, {1}, … stand for values.
export function t(text, ...values) {
  const found = language === "de" ? (GERMAN[text] ?? text) : text;
  return values.length ? found.replace(/\{(\d)\}/g, (_, index) => values[index]) : found;
}

const ATTRIBUTES = ["aria-label", "aria-roledescription", "placeholder", "title"];

// Translate what stands in the page itself.
export function translatePage() {
  document.documentElement.lang = language;
  if (language === "en") return;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const text = node.data.trim().replace(/\s+/g, " ");
    if (text in GERMAN) node.data = node.data.replace(node.data.trim(), GERMAN[text]);
  }
  for (const name of ATTRIBUTES) {
    for (const element of document.querySelectorAll(`[${name}]`)) {
      const text = element.getAttribute(name).replace(/\s+/g, " ");
      if (text in GERMAN) element.setAttribute(name, GERMAN[text]);
    }
  }
}
