// A list that is not full yet is asked for again: what was looked through is kept, so that every answer goes on where it was.
"use strict";
(async function look() {
  const place = document.getElementById("found");
  if (!("more" in place.dataset)) return;
  if (document.hidden) return setTimeout(look, 1000);
  const answer = await fetch(location.href);
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  place.replaceWith(page.getElementById("found"));
  look();
})();
