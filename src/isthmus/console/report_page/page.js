/* Puts the page together. */

const ALL_SECTIONS = [
  ['loop', loopSection], ['left', leftSection], ['model', modelSection], ['proof', proofSection], ['certificate', certificateSection],
  ['cells', cellsSection], ['money', moneySection], ['site', siteSection],
  ['head', headTouch, 'touch'], ['receipt', receiptTouch, 'touch'], ['leave', leaveTouch, 'touch'], ['parties', partiesSection],
];
/* A run of numbers has no cells, next line, leaver or head to touch; its model and proof are told in other words. */
const OF_NUMBERS = { model: valuesModel, proof: valuesProof };
const SECTIONS = foretells() ? ALL_SECTIONS.filter(([key]) => !['cells', 'site', 'head', 'leave'].includes(key))
  .map(([key, build, kind]) => [key, OF_NUMBERS[key] || build, kind]) : ALL_SECTIONS;

function sectionOf([key, build, kind], index) {
  const about = Object.hasOwn(texts, key + '.about.section') ? para(key + '.about.section', {}, 'about') : null;
  return h('section', { id: key, class: kind || '', 'aria-labelledby': key + '-title' },
    h('h2', { id: key + '-title' }, h('span', { class: 'no' }, String(index + 1)), ' ', t(key + '.title')), about, build());
}

function sampleNote() {
  const samples = report.parties.filter((party) => party.sample).map((party) => party.name);
  return samples.length ? h('p', { class: 'sample-note' }, badge(t('party.sample'), 'sample'), ' ', t('sample.note', { names: samples.join(', ') })) : null;
}

function invitation() {
  const links = SECTIONS.filter((entry) => entry[2]).map((entry) => h('a', { href: '#' + entry[0] }, t('invite.' + entry[0])));
  return h('p', { class: 'invitation' }, t(links.length === 1 ? 'touch.invite.one' : 'touch.invite'), links.map((link) => [' ', link]));
}

function fillPage() {
  document.getElementById('eyebrow').append(t('eyebrow', { scenario: report.scenario }), ' · ', when(report.at), ' · ', h('code', {}, report.run_id));
  document.getElementById('top-title').textContent = report.title || t('title', { scenario: report.scenario });
  document.getElementById('headline').append(...[foretells() ? valuesHeadline() : headlineSection(), invitation(), sampleNote()].flat().filter(Boolean));
  const main = document.getElementById('sections'), nav = document.getElementById('contents');
  SECTIONS.forEach((entry, i) => {
    main.append(sectionOf(entry, i));
    nav.append(h('li', { class: entry[2] || '' }, h('a', { href: '#' + entry[0] }, t('nav.' + entry[0]))));
  });
  document.getElementById('foot').append(t('foot', { version: report.version }));
  window.addEventListener('beforeprint', () => { for (const item of document.querySelectorAll('.cell details')) item.open = true; });
}

fillPage();
window.isthmusPage = { sha256: (bytes) => hex(sha256(Uint8Array.from(bytes))), canonical, verifyReceipt, rootFrom: (leaf, index, size, path) => rootFrom(unhex(leaf), index, size, path), texts };
