// Parts that the pages of all sessions have: connection, API key, problems, stop and reset, webcam.
import { $, confirmAction, number, showProblem } from "./text.js";
import { t } from "./words.js";

function showConnection(kind, words) {
  $("link").className = `link ${kind}`;
  $("link").lastElementChild.textContent = words;
}

// `ended` is called when the connection has ended, `missing` when there is no such session.
export function connectHeader(client, { ended, missing }) {
  $("session-id").textContent = client.id;
  client.addEventListener("open", () => showConnection("open", t("live")));
  client.addEventListener("closed", ({ detail }) => {
    if (detail.again_ms === null) showConnection("", t("session ended"));
    else showConnection("lost", t("connection lost, reconnecting"));
    ended();
  });
  client.addEventListener("problem", ({ detail }) => {
    if (detail.status === 404) {
      $("state").textContent = t("no such session");
      document.title = `${t("No such session")} – ${client.id.slice(0, 12)}`;
      missing();
    }
    showProblem(detail);
  });
  client.addEventListener("key", ({ detail }) => {
    $("key").hidden = false;
    $("key-error").textContent = client.keyed ? detail.message : "";
    $("key-value").focus();
    showConnection("", t("not connected"));
  });
  $("key").addEventListener("submit", (event) => {
    event.preventDefault();
    client.useKey($("key-value").value.trim());
  });
  $("problem").querySelector("button").addEventListener("click", () => { $("problem").hidden = true; });
}

// `actions`: by the id of a button, which is the name of the route too: question, explanation, label.
export function connectActions(client, actions) {
  for (const [action, words] of Object.entries(actions)) {
    $(action).addEventListener("click", async () => {
      if (!(await confirmAction(...words))) return;
      try {
        await client.json(`${client.path}/${action}`, { method: "POST" });
      } catch (problem) {
        showProblem(problem);
      }
    });
  }
}

// `changed` is called when the webcam was started or stopped.
export function connectWebcam(webcam, changed) {
  const tell = (problem) => { $("webcam-status").textContent = `${problem.message} ${problem.hint ?? ""}`; };
  const shown = async () => {
    $("webcam").textContent = webcam.labels[1];
    $("webcam-video").hidden = false;
    changed();
    // Their names are known from now on.
    const known = new Set([...$("webcam-camera").options].map(({ value }) => value));
    for (const { id, label } of await webcam.cameras()) {
      if (!known.has(id)) $("webcam-camera").append(new Option(label || t("Another camera"), id));
    }
  };
  $("webcam").addEventListener("click", async () => {
    if (webcam.running) return webcam.stop();
    try {
      await webcam.start();
      await shown();
    } catch (problem) {
      tell(problem);
    }
  });
  $("webcam-camera").addEventListener("change", async ({ target }) => {
    try {
      await webcam.choose(target.value);
      if (webcam.running) await shown();
    } catch (problem) {
      tell(problem);
    }
  });
  webcam.onstop = () => {
    $("webcam").textContent = webcam.labels[0];
    $("webcam-video").hidden = true;
    changed();
  };
  webcam.onframe = () => {
    const skipped = webcam.skipped ? t(", {0} skipped: the connection is too slow", number(webcam.skipped)) : "";
    $("webcam-status").textContent = `${t("{0} sent", number(webcam.sent))}${skipped}.`;
  };
  $("webcam-rate").addEventListener("change", ({ target }) => { webcam.hz = Number(target.value); });
}
