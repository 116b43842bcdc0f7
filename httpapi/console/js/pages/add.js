// Append a record: a text, or a file.

import { getJSON, newKey } from '../api.js';
import { bytes, t } from '../i18n.js';
import { recordHref } from '../router.js';
import { token } from '../settings.js';
import { utf8 } from '../bytes.js';
import { toast } from '../ui/announce.js';
import { h, replace } from '../ui/dom.js';
import { icon } from '../ui/icons.js';
import { button, checkbox, facts, field, form, hash, head, lead, panel, problemBox } from '../ui/parts.js';

const waitFor = '5s';

export function add({ signal }) {
  const key = h('input', { type: 'text', name: 'key', maxlength: 255, autocomplete: 'off', class: 'mono' });
  const type = h('input', { type: 'text', name: 'type', maxlength: 255, autocomplete: 'off', class: 'mono',
    list: 'types', value: 'text/plain; charset=utf-8' });
  const stored = checkbox(t('add.wait'), true);
  const source = sources(type);
  const done = h('div', { class: 'stack' });
  const work = async () => {
    const body = await source.body();
    if (!body) return h('p', { class: 'problem', role: 'alert' }, t('add.nothing'));
    const position = await append(body, { key: key.value, type: type.value, wait: stored.input.checked, signal });
    done.prepend(receipt(position, body.byteLength, key.value));
    source.clear();
    toast(t('add.done', { block: position.block, offset: position.offset }));
    return null;
  };
  const node = form([
    source.node,
    h('datalist', { id: 'types' }, ['text/plain; charset=utf-8', 'application/json', 'text/csv',
      'application/octet-stream'].map((value) => h('option', { value }))),
    h('div', { class: 'pair' }, field(t('record.type'), type, t('add.type.hint')),
      field(t('record.key'), key, t('add.key.hint'))),
    stored.node,
  ], button(t('add.append'), null, { type: 'submit', kind: 'primary' }), work);
  return {
    title: t('nav.add'),
    node: [head(t('nav.add')), lead(t('add.lead')), token('project')
      ? null : problemBox({ status: 401, name: 'no-project-token' }), panel(t('add.title'), node), done],
  };
}

/** append sends the record. Its idempotency key makes it safe to repeat the request at the next master. */
function append(body, { key, type, wait, signal }) {
  const headers = { 'Idempotency-Key': newKey() };
  if (type) headers['Content-Type'] = type;
  if (key) headers['Chainstore-Key'] = key;
  return getJSON(`/v1/records${wait ? `?wait=stored&timeout=${waitFor}` : ''}`, {
    method: 'POST', as: 'project', repeatable: true, timeout: 15_000, headers, body, signal,
  });
}

/** sources returns the choice between a text and a file: {node, body, clear}. */
function sources(type) {
  const text = h('textarea', { name: 'text', rows: 6, spellcheck: 'false', class: 'mono' });
  const file = h('input', { type: 'file', name: 'file' });
  const textPart = field(t('add.text'), text);
  const name = h('p', { class: 'hint', 'aria-live': 'polite' }, t('add.drop'));
  const filePart = h('div', { class: 'drop' }, field(t('add.file'), file), name);
  const show = (what) => {
    textPart.hidden = what !== 'text';
    filePart.hidden = what !== 'file';
    if (what === 'text') type.value = 'text/plain; charset=utf-8';
    else chosen();
  };
  const chosen = () => {
    const [one] = file.files;
    if (!one) return;
    type.value = one.type || 'application/octet-stream';
    replace(name, t('add.chosen', { name: one.name, size: bytes(one.size) }));
  };
  file.addEventListener('change', chosen);
  const radio = (what, checked) =>
    h('label', {}, h('input', { type: 'radio', name: 'source', value: what, checked, onchange: () => show(what) }),
      h('span', {}, t(`add.${what}`)));
  droppable(filePart, file, chosen);
  show('text');
  return {
    node: [h('fieldset', { class: 'segments' }, h('legend', { class: 'unseen' }, t('add.what')), radio('text', true),
      radio('file', false)), textPart, filePart],
    body: async () => {
      const data = textPart.hidden
        ? (file.files[0] ? await file.files[0].arrayBuffer() : null) : utf8(text.value).buffer;
      return data?.byteLength ? data : null;
    },
    clear: () => {
      text.value = '';
      file.value = '';
      replace(name, t('add.drop'));
    },
  };
}

/** droppable makes an element accept dropped files. */
function droppable(place, file, chosen) {
  const over = (on) => (event) => {
    event.preventDefault();
    place.classList.toggle('over', on);
  };
  place.addEventListener('dragover', over(true));
  place.addEventListener('dragleave', over(false));
  place.addEventListener('drop', (event) => {
    over(false)(event);
    if (event.dataTransfer.files.length) file.files = event.dataTransfer.files;
    chosen();
  });
}

/** receipt shows the result of an append. */
function receipt(p, size, key) {
  const node = panel(t('add.receipt'), facts(
    [t('record.place'), h('a', { href: recordHref(p) }, t('record.placeText', { block: p.block, offset: p.offset }))],
    [t('record.index'), String(p.index)],
    [t('record.state'), t(`state.${p.state}`)],
    [t('record.size'), bytes(size)],
    key && [t('record.key'), h('code', {}, key)],
    [t('record.leaf'), hash(p.leaf)]));
  node.classList.add('receipt');
  node.querySelector('h2').prepend(icon('check'));
  return node;
}
