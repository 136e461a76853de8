// The files that the session has left so far.
import { $, size } from "./text.js";

export class Chunks {
  constructor(link) {
    Object.assign(this, { link, path: "", files: new Map() });
  }

  // All that the session left, once it has ended.
  async load() {
    const response = await this.link.fetch(this.path);
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
        const about = document.createElement("span");
        about.textContent = size(file.bytes);
        item.append(this.link.keyed ? this.#command(file) : this.#download(file), about);
        return item;
      }),
    );
  }

  #download(file) {
    const link = document.createElement("a");
    link.href = `${this.path}/${file.name}`;
    link.download = "";
    link.textContent = file.title || file.name;
    return link;
  }

  // A link sends no key, and the bucket that the server points to is another origin: a command can follow.
  #command(file) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = file.name;
    button.title = "Copy the command that downloads it";
    button.addEventListener("click", async () => {
      const place = new URL(`${this.path}/${file.name}`, location.href);
      const command = `curl -fL -H "Authorization: Bearer $SACCADE_API_KEY" -o ${file.name.split("/").pop()} ${place}`;
      await navigator.clipboard.writeText(command);
      button.textContent = "command copied";
      setTimeout(() => { button.textContent = file.name; }, 1500);
    });
    return button;
  }
}
