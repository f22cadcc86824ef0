// Everything works without this file. It adds: an overview that stays fresh, and buttons that copy.
"use strict";

const main = document.getElementById("main");

async function refresh() {
  if (document.hidden || main.contains(document.activeElement) || !getSelection().isCollapsed) return;
  const answer = await fetch(location.href, {redirect: "error", headers: {"Accept": "text/html"}});
  if (!answer.ok && answer.status !== 503) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.getElementById("main");
  if (!fresh) return;
  // What a reader has opened stays open.
  main.querySelectorAll("details[open][id]").forEach((open) => fresh.querySelector("#" + open.id)?.setAttribute("open", ""));
  main.replaceChildren(...fresh.childNodes);
  document.title = page.title;
}

if (main && main.dataset.refresh) {
  setInterval(() => refresh().catch(() => {}), Number(main.dataset.refresh) * 1000);
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  button.dataset.copied = "yes";
  setTimeout(() => delete button.dataset.copied, 1500);
});

document.querySelectorAll("[data-needs-script]").forEach((element) => element.removeAttribute("hidden"));
