// Frame of all pages: menu, search by id, choices, shortcuts, login; and in it the page that the address names.
import { html, useEffect, useRef, useSignal, useState } from "./vendor/preact.js";
import { canLogIn, logIn, logOut, may, readSession, session } from "./api.js";
import * as feed from "./feed.js";
import { LANGUAGES, language, theme, zone } from "./preferences.js";
import { PAGES, pageOf } from "./page_table.js";
import { useFileDrops } from "./parts/file_drops.js";
import { stylesLoaded } from "./parts/load_css.js";
import { Problem } from "./parts/problem.js";
import { Waiting } from "./parts/waiting.js";
import { WantedJob } from "./parts/wanted_job.js";
import { addressOfId } from "./object_address.js";
import { isPortal } from "./portal.js";
import { base, go, href, route } from "./router.js";
import { common } from "./words.js";

export function Frame() {
  const embedded = isPortal || route.value.query.get("embed") === "1";
  const unreachable = useSignal(null);
  const enter = () => {
    unreachable.value = null;
    readSession().catch((error) => (unreachable.value = error));
  };
  useEffect(enter, []);
  useEffect(() => {
    if (embedded) return undefined;
    const help = document.getElementById("help");
    const listen = shortcuts(help);
    addEventListener("keydown", listen);
    return () => removeEventListener("keydown", listen);
  }, [embedded]);
  const isIn = session.value && session.value !== "none";
  useFileDrops(Boolean(isIn) && !embedded, () => pageOf(route.value.path) !== "start" && go(href()));
  const words = common();
  const shown =
    (unreachable.value && html`<${Problem} error=${unreachable.value} retry=${enter} />`) ||
    (session.value === "none" ? (isPortal ? html`<${LinkEnded} />` : html`<${Login} />`) : session.value && html`<${ShownPage} />`);
  if (embedded) return html`<div class="frame embedded"><main id="content" tabindex="-1">${shown}</main></div>`;
  return html`
    <a class="skip" href="#content" onClick=${skip}>${words.skip}</a>
    <div class="frame">
      <${Menu} />
      <div>
        <${Bar} />
        <main id="content" tabindex="-1">${isIn && pageOf(route.value.path) !== "start" && html`<${WantedJob} />`}${shown}</main>
      </div>
    </div>
    <${Help} />
  `;
}

/** Go to the content; to the browser the link is one to the page's <base>. */
function skip(event) {
  event.preventDefault();
  document.getElementById("content").focus();
}

function Menu() {
  const words = common();
  const current = pageOf(route.value.path);
  const names = Object.keys(PAGES).filter((name) => !PAGES[name].scope || may(PAGES[name].scope));
  const state = feed.state.value;
  return html`
    <nav class="menu" aria-label=${words.menu}>
      <a class="name" href=${href()}>Saccade</a>
      <ul>
        ${names.map(
          (name) => html`<li key=${name}>
            <a href=${name === "start" ? href() : href(name)} aria-current=${name === current ? "page" : undefined}>
              <svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><path d=${PAGES[name].icon} /></svg>
              ${words.pages[name]}
            </a>
          </li>`,
        )}
      </ul>
      <p class="link" role="status">${state !== "idle" && html`<i class=${`light ${state}`}></i>${words.feed[state]}`}</p>
    </nav>
  `;
}

function Bar() {
  const words = common();
  const problem = useSignal("");
  const find = (event) => {
    event.preventDefault();
    const found = addressOfId(event.target.elements.id.value.trim());
    problem.value = found ? "" : words.notAnId;
    if (found) {
      go(found);
      event.target.reset();
    }
  };
  return html`
    <div class="bar" role="search">
      <form onSubmit=${find}>
        <input id="search" name="id" type="search" aria-label=${words.searchHint} placeholder=${`${words.search}  /`} autocomplete="off" spellcheck="false" />
        ${problem.value && html`<p class="hint" role="alert">${problem.value}</p>`}
      </form>
      <${Choices} />
      <button type="button" aria-label=${words.help} onClick=${() => document.getElementById("help").showModal()}>?</button>
      ${session.value?.key_id && html`<button type="button" onClick=${() => logOut().catch((error) => (problem.value = error.message))}>${words.logOut}</button>`}
    </div>
  `;
}

/** Time zone, colours and language; on a phone only in the dialog of help. */
function Choices() {
  const words = common();
  const select = (chosen, label, options) => html`
    <select aria-label=${label} value=${chosen.value} onChange=${(event) => (chosen.value = event.target.value)}>
      ${Object.entries(options).map(([value, text]) => html`<option key=${value} value=${value}>${text}</option>`)}
    </select>
  `;
  return html`${select(zone, words.zone, words.zones)} ${select(theme, words.theme, words.themes)} ${select(language, words.language, LANGUAGES)}`;
}

function ShownPage() {
  const asked = pageOf(route.value.path);
  // A link opens the webhooks alone: what another page reads would be refused.
  const name = isPortal && asked !== "webhooks" ? null : asked;
  const [loaded, setLoaded] = useState({});
  const main = useRef(null);
  useEffect(() => {
    if (!name) return undefined;
    let wanted = true;
    PAGES[name].load().then(
      (module) => stylesLoaded().then(() => wanted && setLoaded({ name, Page: module.default })),
      (error) => wanted && setLoaded({ name, error }),
    );
    return () => (wanted = false);
  }, [name]);
  useEffect(() => {
    const words = common();
    document.title = name ? `${words.pages[name]} · Saccade` : "Saccade";
  }, [name, language.value]);
  const words = common();
  if (!name) return html`<div class="empty" ref=${main}><h1>${words.notFound}</h1><p>${words.notFoundHint}</p></div>`;
  if (loaded.name !== name) return html`<${Waiting} />`;
  // A file of an older version is gone after the server was replaced: only a reload finds the new ones.
  if (loaded.error) return html`<div class="note bad" role="alert"><p>${words.reload} <button type="button" onClick=${() => location.reload()}>${words.reloadNow}</button></p></div>`;
  return html`<${loaded.Page} path=${route.value.path.slice(1)} query=${route.value.query} />`;
}

/** Instead of a login: nobody types a key into a page that somebody else shows. */
function LinkEnded() {
  const words = common().portal;
  return html`<div class="empty"><h1>${words.title}</h1><p>${words.hint}</p></div>`;
}

function Login() {
  const words = common().key;
  const error = useSignal(null);
  const enter = async (event) => {
    event.preventDefault();
    error.value = null;
    const field = event.target.elements.key;
    try {
      await logIn(field.value.trim());
      field.value = "";
    } catch (problem) {
      error.value = problem;
      if (problem.status === 401) field.value = "";
    }
  };
  return html`
    <form class="card" onSubmit=${enter}>
      <h1>${words.title}</h1>
      ${!canLogIn.value && html`<div class="note bad" role="alert"><p>${words.cannot}</p></div>`}
      <label class="field"><span>${words.label}</span><input name="key" type="password" autocomplete="off" spellcheck="false" placeholder="id.secret" required disabled=${!canLogIn.value} /></label>
      <p class="hint">${words.hint}</p>
      ${error.value && html`<${Problem} error=${error.value} title=${error.value.status === 401 ? words.wrong : undefined} />`}
      <button class="primary" disabled=${!canLogIn.value}>${words.enter}</button>
    </form>
  `;
}

function Help() {
  const words = common();
  const entry = (keys, text) => html`<dt>${keys.map((key) => html`<kbd>${key}</kbd> `)}</dt><dd>${text}</dd>`;
  return html`
    <dialog id="help" aria-labelledby="help-title">
      <form method="dialog">
        <div class="choices"><${Choices} /></div>
        <h2 id="help-title">${words.shortcuts.title}</h2>
        <dl class="rows">
          ${Object.entries(PAGES).map(([name, page]) => entry(["g", page.key], words.shortcuts.go(words.pages[name])))}
          ${entry(["/"], words.shortcuts.search)} ${entry(["?"], words.shortcuts.help)} ${entry(["Esc"], words.shortcuts.close)}
        </dl>
        <p></p>
        <h2>${words.references}</h2>
        <p><a href=${`${base}docs`}>${words.api}</a> · <a href=${`${base}asyncapi`}>${words.eventReference}</a></p>
        <div class="row end"><button>${words.close}</button></div>
      </form>
    </dialog>
  `;
}

/** Return the listener of keys: "g" and a page's letter, "/" and "?". */
function shortcuts(help) {
  let pressedG = 0;
  return (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, [contenteditable]")) return;
    if (event.key === "/") {
      event.preventDefault();
      document.getElementById("search").focus();
    } else if (event.key === "?") {
      help?.showModal();
    } else if (event.key === "g") {
      pressedG = Date.now();
    } else if (Date.now() - pressedG < 1500) {
      pressedG = 0;
      const name = Object.keys(PAGES).find((page) => PAGES[page].key === event.key);
      if (name) go(name === "start" ? href() : href(name));
    }
  };
}
