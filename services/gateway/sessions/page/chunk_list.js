// List of the files that the session has exported so far.
import { addressOf } from "./session_client.js";
import { $, size } from "./text.js";
import { t } from "./words.js";

export class ChunkList {
  constructor(client) {
    Object.assign(this, { client, path: "", files: new Map() });
  }

  // Load all files of an ended session.
  async load() {
    const response = await this.client.fetch(this.path);
    if (!response.ok) return;
    for (const artifact of (await response.json()).artifacts) this.files.set(artifact.name, artifact);
    this.draw();
  }

  add(artifact) {
    this.files.set(artifact.name, artifact);
    this.draw();
  }

  draw() {
    const files = [...this.files.values()].sort((a, b) => (a.name < b.name ? 1 : -1));
    $("no-chunks").hidden = files.length > 0;
    $("chunks").replaceChildren(
      ...files.map((file) => {
        const item = document.createElement("li");
        const details = document.createElement("span");
        details.textContent = size(file.bytes);
        item.append(this.client.keyed ? this.#command(file) : this.#download(file), details);
        return item;
      }),
    );
  }

  #download(file) {
    const link = document.createElement("a");
    link.href = addressOf(`${this.path}/${file.name}`);
    link.download = "";
    link.textContent = file.title || file.name;
    return link;
  }

  // With an API key: a link cannot send it, and a fetch cannot follow the redirect to the bucket, so offer a command.
  #command(file) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = file.name;
    button.title = t("Copy the command that downloads it");
    button.addEventListener("click", async () => {
      const url = new URL(addressOf(`${this.path}/${file.name}`), location.href);
      const command = `curl -fL -H "Authorization: Bearer $SACCADE_API_KEY" -o ${file.name.split("/").pop()} ${url}`;
      await navigator.clipboard.writeText(command);
      button.textContent = t("command copied");
      setTimeout(() => { button.textContent = file.name; }, 1500);
    });
    return button;
  }
}
