// The list of runs: it is filtered while one types, and says how many are ticked.
"use strict";
(() => {
  const form = document.querySelector("form.filter");
  const compare = document.querySelector(".compare button");
  let timer = 0;

  form.elements.text.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const query = new URLSearchParams(new FormData(form)).toString();
      history.replaceState(null, "", `/?${query}`);
      window.live.source = `/runs.json?${query}`;
      window.live.now();
    }, 200);
  });

  function count() {
    const ticked = document.querySelectorAll("#live-rows input:checked").length;
    compare.disabled = ticked < 2;
    compare.textContent = ticked > 1 ? `compare ${ticked}` : "compare";
  }
  document.addEventListener("change", count);
  document.addEventListener("live", count);
  count();
})();
