
"use strict";
const rows = [...document.querySelectorAll("#words > li[data-start]")];
const byId = (id) => document.getElementById(id);
const play = byId("play"), search = byId("search"), onlyAlerts = byId("only-alerts");
let selected = -1;
let timer = 0;

function visibleRows() {
  return rows.filter((row) => !row.hidden);
}

function select(row, scroll) {
  if (!row) return;
  if (selected >= 0) rows[selected].classList.remove("selected");
  selected = rows.indexOf(row);
  row.classList.add("selected");
  const image = row.querySelector(".frame img");
  byId("picture").hidden = !image;
  byId("none").hidden = Boolean(image);
  if (image) byId("picture").src = image.src;
  const said = row.querySelector(".said, .error");
  byId("caption").textContent = said ? said.textContent : "";
  byId("position").textContent = `${row.querySelector(".time").textContent} · ${selected + 1} of ${rows.length}`;
  if (scroll) row.scrollIntoView({ block: "nearest" });
}

function step(by) {
  const shown = visibleRows();
  const at = shown.indexOf(rows[selected]);
  const next = shown[Math.min(shown.length - 1, Math.max(0, at + by))];
  select(next, true);
  return next !== undefined && shown.indexOf(next) !== at;
}

function setPlaying(playing) {
  clearTimeout(timer);
  play.setAttribute("aria-pressed", String(playing));
  play.textContent = playing ? "Pause" : "Play";
  if (playing) advance();
}

function advance() {
  const from = selected < 0 ? 0 : Number(rows[selected].dataset.start);
  const shown = visibleRows();
  const next = shown[shown.indexOf(rows[selected]) + 1];
  if (!next) return setPlaying(false);
  const wait = Math.min(5000, Math.max(120, (Number(next.dataset.start) - from) * 1000));
  timer = setTimeout(() => { step(1); advance(); }, wait);
}

function highlight(element, words) {
  const text = element.textContent;
  element.textContent = "";
  const lower = text.toLowerCase();
  // Lower case of some letters is longer: positions in it are not those in the text.
  if (!words.length || lower.length !== text.length) return element.append(text);
  let at = 0;
  while (at < text.length) {
    let first = -1, length = 0;
    for (const word of words) {
      const found = lower.indexOf(word, at);
      if (found >= 0 && (first < 0 || found < first)) { first = found; length = word.length; }
    }
    if (first < 0) break;
    element.append(text.slice(at, first));
    const mark = document.createElement("mark");
    mark.textContent = text.slice(first, first + length);
    element.append(mark);
    at = first + length;
  }
  element.append(text.slice(at));
}

function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const row of rows) {
    const text = row.querySelector(".words").textContent.toLowerCase();
    const matches = words.every((word) => text.includes(word));
    row.hidden = !matches || (onlyAlerts.checked && !row.classList.contains("has-alert"));
    if (!row.hidden) count += 1;
    const said = row.querySelector(".said");
    if (said) highlight(said, row.hidden ? [] : words);
  }
  byId("found").textContent = words.length || onlyAlerts.checked ? `${count} of ${rows.length}` : "";
}

search.addEventListener("input", filter);
onlyAlerts.addEventListener("change", filter);
play.addEventListener("click", () => setPlaying(play.getAttribute("aria-pressed") !== "true"));
byId("previous").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
byId("words").addEventListener("click", (event) => {
  const row = event.target.closest("li[data-start]");
  if (row && !event.target.closest("a")) select(row, false);
});
addEventListener("hashchange", () => select(document.getElementById(location.hash.slice(1)), true));
addEventListener("keydown", (event) => {
  if (event.target === search) return event.key === "Escape" ? search.blur() : undefined;
  if (event.ctrlKey || event.metaKey || event.altKey) return undefined;
  if (event.key === "/") { event.preventDefault(); return search.focus(); }
  if (event.target.closest("button, input, a") && event.key === " ") return undefined;
  if (event.key === " ") { event.preventDefault(); return play.click(); }
  if (event.key === "ArrowDown" || event.key === "ArrowRight") { event.preventDefault(); step(1); }
  if (event.key === "ArrowUp" || event.key === "ArrowLeft") { event.preventDefault(); step(-1); }
  return undefined;
});
select(document.getElementById(location.hash.slice(1)) || rows[0], Boolean(location.hash));
