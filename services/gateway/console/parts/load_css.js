const loading = new Set();

/** Load a style sheet that lies beside a module, once: loadCss(import.meta.url). */
export function loadCss(moduleUrl, name = "page.css") {
  const href = new URL(name, moduleUrl).href;
  if ([...document.styleSheets].some((sheet) => sheet.href === href) || document.querySelector(`link[href="${href}"]`)) return;
  const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href });
  const loaded = new Promise((resolve) => (link.onload = link.onerror = resolve)).then(() => loading.delete(loaded));
  loading.add(loaded);
  document.head.append(link);
}

/** Wait until what has been asked for is there: a page that is shown before moves below the pointer. */
export const stylesLoaded = () => Promise.all(loading);
