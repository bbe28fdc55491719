// Adds the lines of a running process to its page. Text is only ever added as text.
"use strict";
(() => {
  const MOST = 5000;
  const log = document.getElementById("log");
  const status = document.getElementById("status");
  const follow = document.getElementById("follow");
  const KNOWN = /^ansi-[a-z-]+$/;

  function add(said) {
    const item = document.createElement("li");
    item.id = "L" + said.sequence;
    item.className = said.level + " " + said.stream;
    const time = document.createElement("time");
    time.dateTime = said.created;
    time.textContent = new Date(said.created).toLocaleTimeString();
    const level = document.createElement("span");
    level.className = "level";
    level.textContent = said.level;
    item.append(time, " ", level, " ");
    for (const [classes, text] of said.parts) {
      const span = document.createElement("span");
      span.className = classes.split(" ").filter((name) => KNOWN.test(name)).join(" ");
      span.textContent = text;
      item.append(span);
    }
    log.append(item);
    while (log.children.length > MOST) log.firstElementChild.remove();
    if (follow.checked) item.scrollIntoView({ block: "end" });
  }

  const source = new EventSource(log.dataset.stream + "?after=" + log.dataset.after);
  source.addEventListener("line", (event) => add(JSON.parse(event.data)));
  source.addEventListener("end", (event) => {
    status.textContent = JSON.parse(event.data).status;
    source.close();
  });
  // Who scrolls up wants to read, and who comes back to the bottom wants to follow.
  window.addEventListener("scroll", () => {
    const left = document.body.scrollHeight - window.scrollY - window.innerHeight;
    follow.checked = left < 40;
  });
})();
