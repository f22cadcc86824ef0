// Everything works without this file. It adds: an overview that stays fresh, and buttons that copy.
"use strict";

const main = document.getElementById("main");
const PAUSED_MS_MAX = 60_000;
const ANSWER_MS_MAX = 10_000;
let freshAt = Date.now();

async function refresh() {
  if (document.hidden || main.contains(document.activeElement) || !getSelection().isCollapsed) {
    if (Date.now() - freshAt >= PAUSED_MS_MAX) showStale("it waits while you use or select something here");
    return;
  }
  const answer = await fetch(location.href, {
    redirect: "manual", headers: {"Accept": "text/html"}, signal: AbortSignal.timeout(ANSWER_MS_MAX),
  });
  if (answer.type === "opaqueredirect") return location.reload(); // to the login, and back here
  if (!answer.ok && answer.status !== 503) throw new Error("no page");
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.getElementById("main");
  if (!fresh) throw new Error("not our page");
  // What a reader has opened stays open.
  main.querySelectorAll("details[open][id]").forEach((open) => fresh.querySelector("#" + open.id)?.setAttribute("open", ""));
  main.replaceChildren(...fresh.childNodes);
  document.title = page.title;
  document.getElementById("stale").hidden = true;
  freshAt = Date.now();
}

// An old verdict must not look like today's.
function showStale(reason) {
  const line = document.getElementById("stale");
  const text = `Not fresh since ${new Date(freshAt).toISOString().slice(11, 16)}: ${reason}. Reload.`;
  line.hidden = false;
  if (line.textContent !== text) line.textContent = text;
  main.querySelector(".verdict")?.classList.add("stale");
}

if (main && main.dataset.refresh) {
  const look = () => refresh().catch(() => showStale("the daemon does not answer, or your session has ended"));
  setInterval(look, Number(main.dataset.refresh) * 1000);
  document.addEventListener("visibilitychange", look);
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  button.dataset.copied = "yes";
  setTimeout(() => delete button.dataset.copied, 1500);
});

document.querySelectorAll("[data-needs-script]").forEach((element) => element.removeAttribute("hidden"));
