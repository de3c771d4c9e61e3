const NUM_LEVELS = 6;

function drawContours(place) {
  place.replaceChildren();
  const heights = study.contours.flatMap(one => one.z.flat()).filter(value => value !== null);
  const low = Math.min(...heights), high = Math.max(...heights);
  const share = value => high > low ? (value - low) / (high - low) : 1;
  for (const one of study.contours) {
    const [across, up] = [study.keys[one.x], study.keys[one.y]];
    const caption = `${shortNames[one.y]} against ${shortNames[one.x]}`;
    const figure = element("figure", {}, element("figcaption", {}, caption));
    place.append(figure);
    const width = figure.clientWidth, height = 280, box = boxOf(width, height);
    const x = numberScale(...one.xr, box.left + 8, box.right - 8, across.log);
    const y = numberScale(...one.yr, box.bottom - 8, box.top + 8, up.log);
    const svg = frame(width, height, box, x, y, `Score by ${across.name} and ${up.name}`);
    const cells = one.z.length - 1;
    const left = x(one.xr[0]), bottom = y(one.yr[0]);
    const step = [(x(one.xr[1]) - left) / cells, (y(one.yr[1]) - bottom) / cells];
    const at = (column, row) => [left + column * step[0], bottom + row * step[1]];
    const surface = shape("g", {class: "surface"});
    one.z.forEach((values, row) => values.forEach((value, column) => {
      if (value === null) return;
      const [a, b] = at(column - 0.5, row + 0.5);
      const cell = shape("rect", {x: a, y: b, width: step[0] + 0.4, height: -step[1] + 0.4});
      cell.style.fill = `color-mix(in oklab, var(--high) ${(100 * share(value)).toFixed(0)}%, var(--wash))`;
      surface.append(cell);
    }));
    svg.append(surface);
    for (let level = 1; level < NUM_LEVELS; level++) {
      const d = isoline(one.z, low + level / NUM_LEVELS * (high - low), at);
      if (d) svg.append(shape("path", {class: "iso", d}));
    }
    for (const trial of scored) {
      const values = [trial.v[one.x], trial.v[one.y]];
      if (trial.st !== "complete" || values.includes(null)) continue;
      const drawn = dot(trial, x(values[0]), y(values[1]));
      drawn.setAttribute("r", 3);
      svg.append(drawn);
    }
    figure.append(svg);
  }
  const ends = `From ${score(low)} (palest) to ${score(high)}.`;
  document.getElementById("contour-ends").textContent = ends;
}

// Lines of equal height through the squares of a grid (marching squares).
function isoline(grid, level, at) {
  let d = "";
  for (let row = 0; row + 1 < grid.length; row++) {
    for (let column = 0; column + 1 < grid.length; column++) {
      const corners = [[0, 0], [1, 0], [1, 1], [0, 1]].map(([c, r]) => [column + c, row + r]);
      const values = corners.map(([c, r]) => grid[r][c]);
      if (values.includes(null)) continue;
      const cuts = [];
      for (let side = 0; side < 4; side++) {
        const next = (side + 1) % 4, [a, b] = [values[side], values[next]];
        if ((a < level) === (b < level)) continue;
        const part = (level - a) / (b - a), [from, to] = [corners[side], corners[next]];
        cuts.push(at(from[0] + part * (to[0] - from[0]), from[1] + part * (to[1] - from[1])));
      }
      for (let k = 0; k + 1 < cuts.length; k += 2) d += `M${cuts[k]}L${cuts[k + 1]}`;
    }
  }
  return d;
}
