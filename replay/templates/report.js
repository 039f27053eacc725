"use strict";
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

for (const button of all(".legend button")) {
  const model = `[data-model="${button.dataset.model}"]`;
  const lit = () => button.getAttribute("aria-pressed") === "true";
  const show = on => all(`.line${model}`).forEach(line => {
    line.classList.toggle("on", on);
    if (on) line.parentNode.append(line);
  });
  button.addEventListener("click", () => {
    const on = !lit();
    all(`.legend button${model}`).forEach(other => other.setAttribute("aria-pressed", on));
    show(on);
  });
  button.addEventListener("pointerenter", () => show(true));
  button.addEventListener("pointerleave", () => show(lit()));
}

for (const plot of all(".plot")) {
  const [cursor, tip] = all(".cursor, .tip", plot);
  const places = plot.dataset.places.split(" ").map(Number);
  const labels = plot.dataset.labels.split("|");
  const paragraph = text => Object.assign(document.createElement("p"), {textContent: text});
  plot.addEventListener("pointermove", event => {
    const box = plot.getBoundingClientRect();
    const x = 100 * (event.clientX - box.left) / box.width;
    const far = place => Math.abs(place - x);
    const nearest = places.reduce((best, place, at) => far(place) < far(places[best]) ? at : best, 0);
    const rows = all(".line.on", plot)
      .map(line => ({line, value: line.dataset.values.split(" ")[nearest]}))
      .sort((a, b) => (parseFloat(b.value) || 0) - (parseFloat(a.value) || 0))
      .map(({line, value}) => {
        const row = paragraph(`${value} ${line.dataset.name}`);
        row.style.setProperty("--c", getComputedStyle(line).stroke);
        return row;
      });
    tip.replaceChildren(paragraph(labels[nearest]), ...rows);
    cursor.style.left = `${places[nearest]}%`;
    tip.style.left = places[nearest] < 50 ? `calc(${places[nearest]}% + 10px)` : "auto";
    tip.style.right = places[nearest] < 50 ? "auto" : `calc(${100 - places[nearest]}% + 10px)`;
    cursor.hidden = tip.hidden = false;
  });
  plot.addEventListener("pointerleave", () => { cursor.hidden = tip.hidden = true; });
}

addEventListener("beforeprint", () => all("details").forEach(part => { part.open = true; }));
