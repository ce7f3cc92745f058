// What is known of a token, in words: of the one that is pointed at, or that the arrow keys have come to.
"use strict";
const readout = document.querySelector("output.readout");
let current = null;

function tell(token) {
  if (current) current.classList.remove("current");
  current = token;
  if (!token) return;
  token.classList.add("current");
  readout.textContent = `${JSON.stringify(token.textContent)}: ${token.title}`;
}

for (const text of document.querySelectorAll(".part .turn.own pre")) {
  const tokens = [...text.querySelectorAll(".token")];
  if (!tokens.length) continue;
  text.addEventListener("pointerover", (event) => {
    const token = event.target.closest(".token");
    if (token) tell(token);
  });
  text.addEventListener("click", (event) => {
    const token = event.target.closest(".token");
    if (token && document.getSelection().isCollapsed) tell(token);
  });
  text.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const ends = { Home: 0, End: tokens.length - 1 }[event.key];
    if ((step === undefined && ends === undefined) || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    const at = tokens.indexOf(current);
    const next = ends ?? Math.min(tokens.length - 1, Math.max(0, at + step));
    tell(tokens[next]);
    tokens[next].scrollIntoView({ block: "nearest" });
  });
}
