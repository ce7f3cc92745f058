// Parts of a page that take long to make are asked for when the page is there.
"use strict";
for (const place of document.querySelectorAll("[data-load]")) {
  (async function load() {
    const response = await fetch(place.dataset.load);
    if (response.status === 202) return setTimeout(load, 1000);
    place.innerHTML = await response.text();
  })();
}
