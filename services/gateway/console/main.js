// Entry of the console: shows the frame and, in it, the page that the address names.
import { html, render } from "./vendor/preact.js";
import { followLinks } from "./router.js";
import { Frame } from "./frame.js";

followLinks();
render(html`<${Frame} />`, document.getElementById("console"));
