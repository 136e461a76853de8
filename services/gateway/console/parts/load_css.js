/** Load a style sheet that lies beside a module, once: loadCss(import.meta.url). */
export function loadCss(moduleUrl, name = "page.css") {
  const href = new URL(name, moduleUrl).href;
  if ([...document.styleSheets].some((sheet) => sheet.href === href) || document.querySelector(`link[href="${href}"]`)) return;
  document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href }));
}
