const columns = [
  {name: "trial", of: trial => trial.n, text: trial => String(trial.n)},
  {name: "score", of: trial => trial.s, text: trial => score(trial.s), main: true},
  {name: "state", of: trial => trial.st, text: trial => trial.st, left: true},
  ...study.keys.map((key, index) => ({
    name: key.name, title: shortNames[index], left: Boolean(key.categories),
    of: trial => trial.v[index] === null || !key.categories
      ? trial.v[index] : key.categories[trial.v[index]],
    text: trial => trial.v[index] === null ? "–"
      : key.categories ? key.categories[trial.v[index]] : format(trial.v[index]),
  })),
  ...study.metrics.map((name, index) => ({
    name, of: trial => trial.m[index], text: trial => score(trial.m[index]),
  })),
  ...study.costs.map((name, index) => ({
    name, of: trial => trial.k[index], text: trial => compact(trial.k[index]),
  })),
  {name: "epochs trained", of: trial => trial.e, text: trial => String(trial.e)},
  {name: "seconds", of: trial => trial.t, text: trial => format(trial.t)},
  {name: "parameters", of: trial => trial.p, text: trial => trial.p === null ? "–" : trial.p.toLocaleString("en")},
];
const byNumber = new Map(study.trials.map(trial => [trial.n, trial]));
const rows = new Map();
let sorted = {name: "score", down: true};

function buildTable() {
  const head = element("tr");
  for (const column of columns) {
    const button = element("button", {type: "button", title: column.name}, column.title || column.name);
    const cell = element("th", {scope: "col", class: column.left ? "left" : ""}, button);
    button.addEventListener("click", () => {
      sorted = {name: column.name, down: sorted.name === column.name ? !sorted.down : column.name === "score"};
      sortTable();
    });
    column.cell = cell;
    head.append(cell);
  }
  document.querySelector("#trials thead").replaceChildren(head);
  for (const trial of study.trials) {
    const row = element("tr", {tabindex: "0", "data-trial": trial.n});
    if (trial.n === study.winner) row.classList.add("winner");
    for (const column of columns) {
      const kind = [column.left ? "left values" : "", column.main ? "main" : ""].join(" ").trim();
      row.append(element("td", {class: kind}, column.text(trial)));
    }
    row.addEventListener("click", () => showTrial(trial.n));
    row.addEventListener("keydown", event => {
      if (event.key === "Enter") showTrial(trial.n);
    });
    rows.set(trial.n, row);
  }
  sortTable();
}

function sortTable() {
  const column = columns.find(one => one.name === sorted.name);
  const sign = sorted.down ? -1 : 1;
  const order = study.trials.map(trial => [column.of(trial), trial]);
  order.sort(([a, one], [b, other]) => {
    if (a === null || b === null) return (a === null) - (b === null) || one.n - other.n;
    const way = typeof a === "number" && typeof b === "number"
      ? a - b : String(a).localeCompare(String(b));
    return sign * way || one.n - other.n;
  });
  if (column.name === "score") {
    // Scores of stopped trials are from fewer epochs, so they come after the complete ones.
    const kinds = ["complete", "stopped", "failed"];
    order.sort(([, one], [, other]) => kinds.indexOf(one.st) - kinds.indexOf(other.st));
  }
  document.querySelector("#trials tbody").replaceChildren(...order.map(([, t]) => rows.get(t.n)));
  for (const one of columns) {
    one.cell.setAttribute("aria-sort", one !== column ? "none" : sorted.down ? "descending" : "ascending");
  }
}

function condition(text) {
  const parts = /^([^<>=]+)(<=|>=|=|<|>)(.+)$/.exec(text);
  const column = parts && columns.find(one =>
    one.name.toLowerCase() === parts[1] || one.name.toLowerCase().endsWith(`.${parts[1]}`));
  if (!column) {
    return trial => columns.some(one => one.text(trial).toLowerCase().includes(text))
      || (trial.err || "").toLowerCase().includes(text);
  }
  const [, , sign, wanted] = parts, number = Number(wanted);
  return trial => {
    const value = column.of(trial);
    if (value === null) return false;
    if (typeof value !== "number" || Number.isNaN(number)) {
      return sign === "=" && String(value).toLowerCase() === wanted;
    }
    if (sign === "=") return value === number || column.text(trial) === wanted;
    return sign === "<" ? value < number : sign === "<=" ? value <= number
      : sign === ">" ? value > number : value >= number;
  };
}

function applyFilters() {
  const words = document.getElementById("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const conditions = words.map(condition);
  const state = document.getElementById("state-filter").value;
  let shown = 0;
  for (const trial of study.trials) {
    const inside = (!state || trial.st === state) && conditions.every(one => one(trial))
      && inBrushes(trial);
    rows.get(trial.n).hidden = !inside;
    for (const drawn of paths.get(trial.n) || []) {
      if (drawn.classList.contains("parallel")) drawn.classList.toggle("off", !inside);
    }
    shown += inside;
  }
  document.getElementById("shown").textContent = `${shown} of ${study.trials.length} trials shown`;
}
