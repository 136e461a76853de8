// Lists of what was said. Words of the model and of other users are shown as text only.
import { language, t } from "../words.js";

const SHOWN = 200;

const element = (name, className, text) => {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.textContent = text;
  return made;
};

const clock = (time) => {
  const made = element("time", "", new Date(time).toLocaleTimeString(language));
  made.dateTime = time;
  return made;
};

export const spanOf = ({ start_s: start, end_s: end }) =>
  start == null || end == null ? "" : `${start.toFixed(1)}–${end.toFixed(1)} s`;

const FINISHED = { length: "cut off at the longest text", cancelled: "stopped", error: "no text" };

function notesOf(text) {
  const notes = FINISHED[text.finish_reason] ? [t(FINISHED[text.finish_reason])] : [];
  if (text.dropped) notes.push(t("{0} frames not shown to the model", text.dropped));
  return notes.join(", ");
}

function textItem(time, text, question) {
  const item = document.createElement("li");
  item.append(clock(time), element("span", "span", spanOf(text)));
  if (question) item.append(element("div", "question", question));
  item.append(text.error ? element("div", "bad", text.error.message) : element("div", "said", text.text));
  const notes = notesOf(text);
  if (notes) item.append(element("div", "note-of-text", notes));
  return item;
}

function alertItem(time, alert) {
  const item = document.createElement("li");
  const confidence = `${Math.round(alert.confidence * 100)} %`;
  item.append(clock(time), element("span", "rule", alert.rule), element("div", "", `${alert.condition} (${confidence})`));
  if (alert.text) item.append(element("div", "note-of-text", alert.text));
  return item;
}

// Texts and answers, newest first. Of a long session the newest are shown, and older ones on request.
export class WordList {
  #items = [];
  #chunks = new Set();
  #questions = new Map();
  #shown = SHOWN;

  constructor({ list, count, none, older }) {
    Object.assign(this, { list, count, none, older });
    older.addEventListener("click", () => {
      this.#shown += SHOWN;
      this.draw();
    });
  }

  // Questions that have no answer yet, by id.
  get waiting() {
    return this.#questions;
  }

  ask(id, question) {
    this.#questions.set(id, question);
  }

  // A text that was received before is not added again.
  add(time, text, draw) {
    if (this.#chunks.has(text.chunk)) return;
    this.#chunks.add(text.chunk);
    const question = this.#questions.get(text.prompt_id);
    this.#questions.delete(text.prompt_id);
    this.#items.push({ time, text, question });
    if (!draw) return;
    this.list.prepend(textItem(time, text, question));
    while (this.list.children.length > this.#shown) this.list.lastChild.remove();
    this.#showCounts();
  }

  draw() {
    const newest = this.#items.slice(-this.#shown).reverse();
    this.list.replaceChildren(...newest.map(({ time, text, question }) => textItem(time, text, question)));
    this.#showCounts();
  }

  #showCounts() {
    this.count.textContent = this.#items.length ? `(${this.#items.length})` : "";
    this.none.hidden = this.#items.length > 0;
    this.older.hidden = this.#items.length <= this.#shown;
  }
}

export class AlertList {
  #known = new Set();

  constructor({ list, none, panel }) {
    Object.assign(this, { list, none, panel });
  }

  add(time, alert) {
    if (this.#known.has(alert.alert)) return;
    this.#known.add(alert.alert);
    this.list.prepend(alertItem(time, alert));
    while (this.list.children.length > SHOWN) this.list.lastChild.remove();
    this.none.hidden = true;
    this.panel.classList.add("some");
  }
}
