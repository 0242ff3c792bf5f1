"use strict";
// Filters pictures and the table of clips by outcome, speaker, label and name; sorts the table by a column.
const MOST_ROWS = 100;
const clips = JSON.parse(document.getElementById("clips").textContent);
const chosen = ["outcome", "speaker", "label"].map((name) => document.getElementById(name));
const COLUMN = { speaker: 1, label: 2, outcome: 3 };
const order = new Intl.Collator(undefined, { numeric: true }).compare; // 2 comes before 10
const search = document.getElementById("search");
const pictures = [...document.querySelectorAll("figure[data-clip]")];
let sortBy = 0;
let down = false;

for (const select of chosen) {
  const values = [...new Set(clips.map((clip) => clip[COLUMN[select.id]]))].sort(order);
  for (const value of values) select.add(new Option(value, value));
  select.addEventListener("change", show);
}
search.addEventListener("input", show);
document.querySelectorAll("#list th").forEach((head, column) => {
  head.querySelector("button").addEventListener("click", () => {
    down = sortBy === column ? !down : false;
    sortBy = column;
    show();
  });
});

function wanted(speaker, label, outcome, id) {
  const values = { speaker, label, outcome };
  const fits = chosen.every((select) => !select.value || select.value === values[select.id]);
  return fits && id.toLowerCase().includes(search.value.toLowerCase());
}

function compare(a, b) {
  const x = a[sortBy], y = b[sortBy];
  if (x === null || y === null) return (x === null) - (y === null);
  const found = typeof x === "number" ? x - y : order(x, y);
  return down ? -found : found;
}

function show() {
  for (const picture of pictures) {
    const d = picture.dataset;
    picture.hidden = !wanted(d.speaker, d.label, d.outcome, d.clip);
  }
  for (const group of document.querySelectorAll(".pictures")) {
    group.hidden = !group.querySelector("figure:not([hidden])");
  }
  const found = clips.filter((clip) => wanted(clip[1], clip[2], clip[3], clip[0])).sort(compare);
  const body = document.querySelector("#list tbody");
  body.replaceChildren(...found.slice(0, MOST_ROWS).map((clip) => {
    const row = document.createElement("tr");
    clip.forEach((value, column) => {
      const cell = row.insertCell();
      if (column < 4) cell.className = "text";
      const text = column < 3 ? cell.appendChild(document.createElement("bdi")) : cell; // names have their own direction
      text.textContent = value === null ? "–" : value;
    });
    return row;
  }));
  const shown = Math.min(found.length, MOST_ROWS);
  document.getElementById("count").textContent = `${found.length.toLocaleString("en")} ${found.length === 1 ? "clip" : "clips"}` +
    (shown < found.length ? `, the first ${shown} shown` : "");
}
show();
