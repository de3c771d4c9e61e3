function recipeOf(trial) {
  const lines = study.recipe.map(text => ({text, changed: false}));
  for (const [start, count, added] of [...trial.d].reverse()) {
    lines.splice(start, count, ...added.map(text => ({text, changed: true})));
  }
  return lines;
}

const recipeText = trial => recipeOf(trial).map(line => line.text).join("\n") + "\n";

function showTrial(number) {
  const trial = byNumber.get(number);
  document.getElementById("trial-title").textContent = label(trial);
  const pairs = columns.filter(column => column.name !== "trial")
    .map(column => [column.name, column.text(trial)]);
  study.keys.forEach((key, index) => {
    if (trial.full[index] !== undefined) pairs.find(pair => pair[0] === key.name)[1] = trial.full[index];
  });
  if (trial.err) pairs.push(["reason", trial.err]);
  document.getElementById("trial-values").replaceChildren(...pairs.map(([name, text]) =>
    element("tr", {}, element("th", {scope: "row"}, name), element("td", {}, text))));
  const lines = recipeOf(trial).flatMap(line =>
    [line.changed ? element("mark", {}, line.text) : line.text, "\n"]);
  document.getElementById("trial-recipe").replaceChildren(...lines);
  document.getElementById("copy-trial").onclick = event => copy(event.target, recipeText(trial));
  document.getElementById("trial").showModal();
}

async function copy(button, text) {
  const title = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = element("textarea");
    area.value = text;
    button.after(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = title; }, 1500);
}

function draw() {
  paths.clear();
  drawHistory(document.getElementById("history"));
  drawParallel(document.getElementById("parallel"));
  drawSlices(document.getElementById("slices"));
  drawCurves(document.getElementById("curves"));
  drawTargets();
  const surfaces = document.getElementById("contours");
  if (surfaces) drawContours(surfaces);
  applyFilters();
}

function start() {
  document.documentElement.classList.add("scripted");
  buildTable();
  draw();
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    draw();
  });
  document.getElementById("filter").addEventListener("input", applyFilters);
  document.getElementById("state-filter").addEventListener("change", applyFilters);
  document.getElementById("clear").addEventListener("click", () => {
    document.getElementById("filter").value = "";
    document.getElementById("state-filter").value = "";
    brushes.clear();
    draw();
  });
  const dialog = document.getElementById("trial");
  dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });
  if (study.winner !== null) {
    const winner = byNumber.get(study.winner);
    document.getElementById("copy-winner").onclick = e => copy(e.target, recipeText(winner));
    document.getElementById("show-winner").onclick = () => showTrial(study.winner);
  }
  if (study.state === "running") {
    // A reload loses filters, so the page reloads only while nobody uses it.
    let used = false;
    for (const kind of ["pointerdown", "keydown"]) addEventListener(kind, () => { used = true; });
    setInterval(() => { if (!used && !document.hidden) location.reload(); }, 30_000);
  }
}

start();
