const onFront = new Set(study.front);

function compact(value) {
  if (value === null || value === undefined) return "–";
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e4]]) {
    if (Math.abs(value) >= size) return `${Number((value / (unit === "k" ? 1e3 : size)).toPrecision(3))} ${unit}`;
  }
  return String(Number(value.toPrecision(3)));
}

// Scale of a target other than the score; logarithmic where its values span orders of magnitude.
function targetScale(place, from, to) {
  const values = study.trials.map(trial => trial.x[place]).filter(value => value !== null);
  if (!values.length) return null;
  const low = Math.min(...values), high = Math.max(...values);
  const log = low > 0 && high / low > 20, room = log ? 0 : (high - low) * 0.05;
  const scale = numberScale(low - room, high + room, from, to, log);
  scale.ticks = scale.ticks.map(([value]) => [value, compact(value)]);
  return scale;
}

const targetTexts = trial => study.targets.slice(1)
  .map((target, place) => `, ${target.name} ${compact(trial.x[place])}`).join("");

function drawFront(place) {
  place.replaceChildren();
  study.targets.slice(1).forEach((target, index) => {
    const title = `${study.targets[0].name} against ${target.name}`;
    const better = `${target.min ? "less" : "more"} is better`;
    const figure = element("figure", {}, element("figcaption", {}, `${title} (${better})`));
    place.append(figure);
    const width = figure.clientWidth, height = 260, box = boxOf(width, height);
    const x = targetScale(index, box.left + 6, box.right - 6), y = scoreScale(box);
    if (x === null) return;
    const svg = frame(width, height, box, x, y, `Trials by ${title}`);
    const shown = scored.filter(trial => trial.st === "complete" && trial.x[index] !== null);
    if (study.targets.length === 2) {
      const ends = shown.filter(trial => onFront.has(trial.n)).sort((a, b) => a.x[0] - b.x[0]);
      const d = ends.map((trial, k) => {
        const [across, up] = [x(trial.x[0]), y(trial.s)];
        if (!k) return `M${across},${up}`;
        return target.min ? `H${across}V${up}` : `V${up}H${across}`;
      }).join("");
      svg.append(shape("path", {class: "best", d}));
    }
    // Those on the front are drawn last, above the others.
    for (const trial of [...shown].sort((a, b) => onFront.has(a.n) - onFront.has(b.n))) {
      const drawn = dot(trial, x(trial.x[index]), y(trial.s));
      drawn.querySelector("title").textContent = label(trial) + targetTexts(trial);
      if (onFront.has(trial.n)) {
        drawn.classList.add("front");
        drawn.setAttribute("r", 5);
      }
      svg.append(drawn);
    }
    figure.append(svg);
  });
}

function drawHypervolume(place) {
  const width = place.clientWidth, height = 180, box = boxOf(width, height);
  const last = Math.max(1, ...study.trials.map(trial => trial.n));
  const x = numberScale(0, last, box.left + 4, box.right - 4, false);
  x.ticks = x.ticks.filter(([value]) => Number.isInteger(value));
  const top = Math.max(...study.volumes.map(([, share]) => share));
  const y = numberScale(0, top * 1.05, box.bottom, box.top, false);
  const svg = frame(width, height, box, x, y, "Hypervolume after each trial");
  const d = study.volumes.map(([number, share], k) =>
    k ? `H${x(number)}V${y(share)}` : `M${x(number)},${y(share)}`).join("");
  svg.append(shape("path", {class: "best", d: `${d}H${x(last)}`}));
  for (const [number, share] of study.volumes) {
    const drawn = shape("circle", {class: "dot step", cx: x(number), cy: y(share), r: 3, "data-trial": number});
    drawn.append(shape("title", {}, `trial ${number}: ${share.toFixed(3)}`));
    svg.append(keep(byNumber.get(number), drawn));
  }
  place.replaceChildren(svg);
}

function drawTargets() {
  const front = document.getElementById("front"), volume = document.getElementById("hypervolume");
  if (front) drawFront(front);
  if (volume) drawHypervolume(volume);
  for (const row of document.querySelectorAll("#front-table tbody tr")) {
    row.tabIndex = 0;
    row.onclick = () => showTrial(Number(row.dataset.trial));
    row.onkeydown = event => { if (event.key === "Enter") row.onclick(); };
  }
}
