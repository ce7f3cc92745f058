// Parts of a page are asked for again and put in place. A part is HTML from our own templates, in which all else is escaped.
"use strict";
(() => {
  const body = document.body;
  const shown = new Map();
  let timer = 0;
  let asked = 0;
  const live = (window.live = { source: body.dataset.poll, now: poll });

  async function poll() {
    clearTimeout(timer);
    if (document.hidden) {
      timer = setTimeout(poll, 1000);
      return;
    }
    const mine = ++asked;
    let again = 5000;
    try {
      const response = await fetch(live.source);
      if (!response.ok) throw new Error(String(response.status));
      const told = await response.json();
      if (mine !== asked) return; // another question has been asked since
      for (const [name, html] of Object.entries(told.fragments)) put(name, html);
      body.classList.remove("lost");
      document.dispatchEvent(new CustomEvent("live", { detail: told }));
      again = told.again_ms;
    } catch {
      if (mine !== asked) return;
      body.classList.add("lost");
    }
    timer = setTimeout(poll, again);
  }

  function put(name, html) {
    const place = document.getElementById(`live-${name}`);
    if (!place) {
      if (!shown.size) location.reload(); // the page was waiting for its run
      return;
    }
    if (shown.get(name) === html) return;
    const scrolled = [...place.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
    const ticked = new Set([...place.querySelectorAll("input:checked")].map((one) => one.value));
    const focused = place.contains(document.activeElement) ? document.activeElement.value : null;
    shown.set(name, html);
    place.innerHTML = html;
    place.querySelectorAll(".scroll").forEach((one, number) => (one.scrollLeft = scrolled[number] || 0));
    for (const box of place.querySelectorAll("input[type=checkbox]")) {
      box.checked = ticked.has(box.value);
      if (focused !== null && box.value === focused) box.focus();
    }
  }

  // A graph that is wider than the page begins with its middle, where the first step is.
  for (const one of document.querySelectorAll(".graphs")) one.scrollLeft = (one.scrollWidth - one.clientWidth) / 2;
  document.addEventListener("visibilitychange", () => document.hidden || poll());
  timer = setTimeout(poll, Number(body.dataset.pollMs));
})();
