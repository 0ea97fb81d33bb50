'use strict';
// Shows what /api tells. Names and keys are bytes of strangers: they become text nodes only.
const KEEP_MS = 300000;
const $ = (id) => document.getElementById(id);
// What becomes of a decision, as the chart stacks them: refusals at the bottom.
const KINDS = ['denied', 'unavailable', 'allowed', 'paused'];
const zeros = () => Object.fromEntries(KINDS.map((what) => [what, 0]));
const sum = (rate) => KINDS.reduce((all, what) => all + rate[what], 0);
const state = { name: null, uuid: null, samples: [] };

function make(tag, attributes = {}, ...children) {
  const svg = ['svg', 'path', 'line', 'rect'].includes(tag);
  const node = svg ? document.createElementNS('http://www.w3.org/2000/svg', tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.map((child) => child instanceof Node ? child : String(child)));
  return node;
}
function say(id, text, bad = false) {
  $(id).textContent = text;
  $(id).classList.toggle('bad', bad);
}
function short(number) {
  if (number >= 1e6) return (number / 1e6).toFixed(1) + ' M';
  if (number >= 1e4) return (number / 1e3).toFixed(1) + ' k';
  return number >= 10 || Number.isInteger(number) ? Math.round(number).toString() : number.toFixed(1);
}
function time(ns) {
  if (ns === null) return 'never';
  const s = ns / 1e9;
  if (s < 10) return s.toFixed(1) + ' s';
  if (s < 120) return Math.ceil(s) + ' s';
  if (s < 7200) return Math.ceil(s / 60) + ' min';
  return s < 172800 ? Math.ceil(s / 3600) + ' h' : Math.ceil(s / 86400) + ' d';
}
// Columns are [heading, cell of a row, class].
function fill(id, columns, rows, none) {
  const head = make('tr', {}, ...columns.map(([text, , kind]) =>
    make('th', { scope: 'col', class: kind || '' }, text)));
  const body = rows.map((row) => make('tr', {}, ...columns.map(([, cell, kind]) =>
    make('td', { class: kind || '' }, cell(row)))));
  if (rows.length === 0) body.push(make('tr', {}, make('td', { colspan: columns.length }, none)));
  $(id).replaceChildren(head, ...body);
}
async function get(path) {
  const answer = await fetch(path, { cache: 'no-store', signal: AbortSignal.timeout(10000) });
  const json = await answer.json();
  if (!answer.ok) throw new Error(json.message || json.error);
  return json;
}
const api = (what) => get('api/' + encodeURIComponent(state.name) + '/' + what);

// What each policy decided between two samples, per second; nothing if a counter went back.
function rates(before, after) {
  const seconds = (after.at - before.at) / 1000;
  const found = new Map();
  for (const [name, now] of after.policies) {
    const then = before.policies.get(name) || zeros();
    const rate = {};
    for (const what of KINDS) {
      rate[what] = seconds > 0 && now[what] >= then[what] ? (now[what] - then[what]) / seconds : 0;
    }
    found.set(name, rate);
  }
  return found;
}
function told(rate, unit) {
  return `${short(rate.allowed)}${unit} allowed, ${short(rate.denied)}${unit} refused` +
    (rate.unavailable ? `, ${short(rate.unavailable)}${unit} not decided` : '') +
    (rate.paused ? `, ${short(rate.paused)}${unit} admitted while paused` : '');
}
function chart(policy, points, now, span) {
  const width = 600;
  const height = 100;
  const most = Math.max(1, ...points.map((point) => sum(point.rate)));
  const x = (at) => width * (1 - (now - at) / span);
  const svg = make('svg', { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none',
    role: 'img', 'aria-label': 'decisions per second', 'data-points': points.length });
  svg.append(make('line', { x1: 0, y1: height / 2, x2: width, y2: height / 2 }));
  const floor = points.map(() => 0);
  for (const what of KINDS) {
    let up = '';
    let down = '';
    points.forEach((point, i) => {
      const place = (value) => `${x(point.at).toFixed(1)},${(height * (1 - value / most)).toFixed(2)}`;
      down = `L${place(floor[i])}` + down;
      floor[i] += point.rate[what];
      up += (i === 0 ? 'M' : 'L') + place(floor[i]);
    });
    if (points.length > 1) svg.append(make('path', { class: what, d: up + down + 'Z' }));
  }
  const last = points.length ? points[points.length - 1].rate : zeros();
  const factor = policy.factor_ppm === 1000000 ? '' : `, at ${policy.factor_ppm / 10000} %`;
  return make('div', { class: 'chart' }, make('h3', {}, policy.name),
    make('p', { class: 'small' }, policy.text + factor), svg,
    make('p', { class: 'small axis' }, make('span', {}, `top: ${short(most)}/s`),
      make('span', {}, 'now: ' + told(last, '/s'))));
}
function showDecisions(policies) {
  const now = Date.now();
  state.samples.push({ at: now, policies: new Map(policies.map((each) => [each.name, each.counters])) });
  while (state.samples[0].at < now - KEEP_MS) state.samples.shift();
  const steps = state.samples.slice(1).map((sample, i) =>
    ({ at: sample.at, rate: rates(state.samples[i], sample) }));
  const span = Math.max(60000, now - state.samples[0].at);
  const all = zeros();
  if (steps.length) {
    for (const rate of steps[steps.length - 1].rate.values()) {
      for (const what of KINDS) all[what] += rate[what];
    }
  }
  say('rate', short(sum(all)));
  say('rate-more', told(all, ''), all.unavailable + all.paused > 0);
  const total = (policy) => sum(policy.counters);
  const shown = [...policies].sort((a, b) => total(b) - total(a)).slice(0, 12);
  $('charts').replaceChildren(...shown.map((policy) => chart(policy, steps
    .filter((step) => step.rate.has(policy.name))
    .map((step) => ({ at: step.at, rate: step.rate.get(policy.name) })), now, span)));
  if (shown.length < policies.length) {
    $('charts').append(make('p', { class: 'small' }, `and ${policies.length - shown.length} more`));
  }
}
function showTier(tier) {
  $('tier-tile').hidden = !tier.kept;
  if (!tier.kept) return;
  const up = tier.state === 'up';
  const part = tier.share_ppm / 10000;
  say('tier', { up: 'up', down: 'down', dead: 'agent gone', none: 'no agent' }[tier.state], !up);
  say('tier-more', `${tier.nodes} nodes, last exchange ` + (tier.exchange_age_ns === null ? 'never'
    : time(tier.exchange_age_ns) + ' ago') + `, lag ${time(tier.lag_ns)}` +
    (part < 100 ? `, ${part.toFixed(1)} % of each rate` : '') +
    (tier.overshoot_permits ? `, at most ${short(tier.overshoot_permits)} over a burst` : '') +
    (up || tier.error === '' ? '' : `: ${tier.error}`), !up);
}
function showInfo(info) {
  showTier(info.tier);
  $('paused').hidden = !info.paused;
  const count = info.occupancy;
  const per = (slots) => (100 * slots / info.slots).toFixed(1) + ' %';
  say('used', per(count.live), count.live > 0.85 * info.slots);
  say('used-more', `${short(count.live)} live and ${short(count.idle)} idle keys in ` +
    `${short(info.slots)} slots, made for ${short(info.capacity)}`);
  $('bar').replaceChildren(...['live', 'idle'].map((kind) => {
    const part = make('i', { class: kind });
    part.style.width = per(count[kind]).replace(' ', '');
    return part;
  }));
  const attached = info.attached.filter((each) => each.alive !== false);
  say('attached', attached.length);
  say('attached-more', attached.length === info.attached.length ? ''
    : `and ${info.attached.length - attached.length} that ended without detaching`);
  fill('processes', [['pid', (each) => each.pid],
    ['attached for', (each) => time(each.attached_for_ns)],
    ['state', (each) => each.alive === null ? 'other pid namespace' : each.alive ? 'alive' : 'dead']],
  info.attached.slice(0, 50), 'none');
  const failures = info.snapshot_failures || 0;
  say('snapshot', info.snapshot_generation ? time(info.snapshot_age_ns) + ' old' : 'none');
  say('snapshot-more', failures ? `${failures} tries have failed since` : info.snapshot_generation
    ? `number ${info.snapshot_generation}, ${short(info.snapshot_rows)} keys, took ` +
      time(info.snapshot_duration_ns) : 'nothing survives a reboot', failures > 0);
  const probes = info.counters.filter((each) => each.name.startsWith('probe_'));
  const most = Math.max(1, ...probes.map((each) => each.value));
  fill('probes', [['groups', (each) => each.description.replace(/^insertions | groups.*$/g, '')],
    ['keys', (each) => short(each.value), 'number'],
    ['', (each) => make('svg', { class: 'probe', viewBox: '0 0 100 10', preserveAspectRatio: 'none' },
      make('rect', { class: 'allowed', height: 10, width: (100 * each.value / most).toFixed(2) })),
    'wide']], probes, 'none');
  fill('counters', [['counter', (each) => each.description], ['', (each) => short(each.value), 'number']],
    info.counters.filter((each) => !each.name.startsWith('probe_')), 'none');
  if (state.uuid !== null && state.uuid !== info.uuid) state.samples = [];  // it was replaced
  state.uuid = info.uuid;
  return info.linked ? 'read-only view' : 'the name was removed';
}
const KEY = ['key', (each) => each.key === null ? '#' + each.fingerprint
  : each.key + (each.key_cut ? '…' : ''), 'key'];
function showKeys(refused, hot) {
  const left = (each) => each.remaining === undefined ? 'barred' : each.remaining;
  say('refused-title', `Refused keys (${short(refused.count)})`);
  fill('refused', [KEY, ['policy', (each) => each.policy],
    ['left', left, 'number'], ['all back in', (each) => time(each.reset_after_ns), 'number']],
  refused.keys, 'none now');
  fill('hot', [KEY, ['policy', (each) => each.policy], ['allowed', (each) => '≈ ' + short(each.allowed), 'number'],
    ['refused', (each) => '≈ ' + short(each.denied), 'number']], hot.keys,
  hot.sample_rate ? 'no sample yet' : 'this segment takes no samples');
  say('hot-title', hot.sample_rate
    ? `Hot keys (${short(hot.samples)} samples, one of ${short(hot.sample_rate)} decisions)` : 'Hot keys');
}
function choose(name) {
  if (name === state.name) return;
  Object.assign(state, { name, uuid: null, samples: [] });
}
async function step() {
  const list = (await get('api/segments.json')).segments;
  if (state.name === null) choose(list[0].name);
  $('segments').replaceChildren(...list.map((each) => {
    const button = make('button', { 'aria-pressed': each.name === state.name }, each.name +
      (each.status === 'ok' ? '' : ': gone'));
    button.addEventListener('click', () => { choose(each.name); });
    return button;
  }));
  const own = list.find((each) => each.name === state.name);
  $('main').hidden = own.status !== 'ok';
  if (own.status !== 'ok') {
    $('paused').hidden = true;
    state.samples = [];
    return say('state', own.status === 'segment_not_found' ? 'gone' : own.status, true);
  }
  const [policies, info, refused, hot] = await Promise.all([api('policies.json'), api('info.json'),
    api('keys.json?state=refused&limit=20'), api('hot.json?limit=20')]);
  if (policies.segment !== state.name) return null;  // another one was chosen meanwhile
  const text = showInfo(info);
  showDecisions(policies.policies);
  showKeys(refused, hot);
  return say('state', text);
}
async function run() {
  try {
    await step();
  } catch (error) {
    say('state', 'no answer: ' + error.message, true);
  }
  setTimeout(run, 1000);
}
run();
