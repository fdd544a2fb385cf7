// Values under the pointer, by touch or by the arrow keys; one curve picked out of many; the slider of the panels.
// Everything essential is there without it. The values are read from the tables of the page.
'use strict';
document.documentElement.classList.add('js');

function readable(figure) {
  const plot = figure.querySelector('.plot');
  const svg = plot.querySelector('svg');
  const rows = [...figure.querySelectorAll('tbody tr')];
  if (!rows.length) return;
  const xs = rows.map(row => Number(row.cells[0].textContent));
  const [first, last] = svg.dataset.ends.split(' ').map(Number);
  const [left, right] = svg.dataset.edges.split(' ').map(Number);
  const cursor = svg.querySelector('.cursor');
  const where = figure.querySelector('.where output');
  const values = [...figure.querySelectorAll('.legend output')];
  const newest = [where.textContent, ...values.map(output => output.textContent)];
  let at = -1;

  function show(index) {
    at = Math.max(0, Math.min(rows.length - 1, index));
    const x = (left + (xs[at] - first) / (last - first) * (right - left)) * Number(svg.dataset.width);
    cursor.setAttribute('x1', x);
    cursor.setAttribute('x2', x);
    plot.classList.add('reading');
    where.textContent = rows[at].cells[0].textContent;
    values.forEach((output, i) => { output.textContent = rows[at].cells[i + 1].textContent; });
  }
  function leave() {
    at = -1;
    plot.classList.remove('reading');
    [where, ...values].forEach((output, i) => { output.textContent = newest[i]; });
  }
  function nearest(event) {
    const box = svg.getBoundingClientRect();
    const share = ((event.clientX - box.left) / box.width - left) / (right - left);
    const x = first + share * (last - first);
    let best = 0;
    xs.forEach((other, i) => { if (Math.abs(other - x) < Math.abs(xs[best] - x)) best = i; });
    show(best);
  }
  const items = [...figure.querySelectorAll('.legend li')];
  const curves = [...svg.querySelectorAll('.curve')];
  function single(item) {
    const on = item.getAttribute('aria-pressed') !== 'true';
    items.forEach(other => other.setAttribute('aria-pressed', on && other === item));
    svg.classList.toggle('alone', on);
    curves.forEach(curve => curve.classList.toggle('chosen', curve.dataset.line === item.dataset.line));
  }
  if (items.length > 2) {
    for (const item of items) {
      item.tabIndex = 0;
      item.setAttribute('role', 'button');
      item.setAttribute('aria-pressed', 'false');
      item.addEventListener('click', () => single(item));
      item.addEventListener('keydown', event => {
        if (event.key === 'Enter' || event.key === ' ') {
          single(item);
          event.preventDefault();
        }
      });
    }
  }
  plot.addEventListener('pointermove', nearest);
  plot.addEventListener('pointerdown', nearest);
  plot.addEventListener('pointerleave', leave);
  plot.addEventListener('blur', leave);
  plot.addEventListener('keydown', event => {
    const step = Math.max(1, Math.round(rows.length / 100));
    const moves = {
      ArrowLeft: () => show(at < 0 ? rows.length - 1 : at - step),
      ArrowRight: () => show(at < 0 ? 0 : at + step),
      Home: () => show(0),
      End: () => show(rows.length - 1),
      Escape: leave,
    };
    if (event.key in moves) {
      moves[event.key]();
      event.preventDefault();
    }
  });
}

function slide(panels) {
  const input = panels.querySelector('.slider input');
  if (!input) return;
  const output = panels.querySelector('.slider output');
  const epochs = input.dataset.epochs.split(' ').map(Number);
  const sheets = [...panels.querySelectorAll('.sheet')];
  function show() {
    const epoch = epochs[Number(input.value)];
    output.textContent = 'epoch ' + epoch;
    input.setAttribute('aria-valuetext', 'epoch ' + epoch);
    const nearest = {};
    for (const sheet of sheets) {
      const here = Number(sheet.dataset.epoch);
      const run = sheet.dataset.run;
      if (!(run in nearest) || Math.abs(here - epoch) < Math.abs(nearest[run] - epoch)) nearest[run] = here;
    }
    for (const sheet of sheets) sheet.hidden = Number(sheet.dataset.epoch) !== nearest[sheet.dataset.run];
  }
  input.addEventListener('input', show);
  show();
}

document.querySelectorAll('figure.chart').forEach(readable);
document.querySelectorAll('.panels').forEach(slide);
