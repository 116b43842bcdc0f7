// A record's payload: somebody's bytes. They are shown as text, as a picture, or in hex, never run and never read as
// HTML.

import { fromBase64, toHex } from '../bytes.js';
import { bytes, t } from '../i18n.js';
import { h } from './dom.js';
import { button } from './parts.js';
import { save } from './save.js';

/** pictures are the types that a browser only ever draws; SVG, which can hold more, is shown as the text that it is. */
const pictures = ['image/png', 'image/jpeg', 'image/gif', 'image/webp', 'image/avif', 'image/bmp'];

const shownText = 256 * 1024; // characters
const shownHex = 2048; // bytes
const previewed = 80; // characters

/** textOf reads bytes as UTF-8; null where they are not, or hold what text does not. */
function textOf(data) {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(data);
    return /[\u0000-\u0008\u000e-\u001a]/.test(text) ? null : text;
  } catch {
    return null;
  }
}

const mediaType = (record) => record.type.split(';')[0].trim().toLowerCase();

/** kindOf says how a payload is shown: "picture", "json", "text" or "hex". */
function kindOf(record, text) {
  const type = mediaType(record);
  if (pictures.includes(type)) return 'picture';
  if (text === null) return 'hex';
  if ((type === 'application/json' || type.endsWith('+json')) && prettyJSON(text) !== null) return 'json';
  return 'text';
}

/**
 * prettyJSON puts JSON on lines; null where the text is none. Its tokens stay as they are: to read and write it again
 * would change numbers that pass what JavaScript can hold.
 */
function prettyJSON(text) {
  try {
    JSON.parse(text);
  } catch {
    return null;
  }
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g) ?? [];
  let [out, depth] = ['', 0];
  const line = () => `\n${'  '.repeat(depth)}`;
  tokens.forEach((token, i) => {
    const opened = '{['.includes(tokens[i - 1] ?? ' ');
    if ('}]'.includes(token)) {
      depth--;
      out += opened ? token : line() + token;
      return;
    }
    if (opened || tokens[i - 1] === ',') out += line();
    out += token === ':' ? ': ' : token;
    if ('{['.includes(token)) depth++;
  });
  return out;
}

/** preview is the start of a payload in one line. */
export function preview(record) {
  const data = fromBase64(record.payload);
  const text = textOf(data.subarray(0, 4 * previewed)) ?? textOf(trimmed(data, 4 * previewed));
  if (pictures.includes(mediaType(record))) return h('span', { class: 'faint' }, t('payload.picture'));
  if (text === null) return h('code', { class: 'preview faint' }, toHex(data.subarray(0, 16)).replace(/../g, '$& '));
  return h('span', { class: 'preview' }, text.slice(0, previewed).replace(/\s+/g, ' '));
}

/** trimmed cuts bytes where a character ends. */
function trimmed(data, length) {
  let end = Math.min(length, data.length);
  while (end > 0 && end < data.length && (data[end] & 0xc0) === 0x80) end--;
  return data.subarray(0, end);
}

/** payload shows a whole record's payload; signal ends with the page, and gives back what a picture holds. */
export function payload(record, signal) {
  const data = fromBase64(record.payload);
  const text = textOf(data);
  const kind = kindOf(record, text);
  return h('div', { class: `payload payload-${kind}` },
    { picture: () => picture(record, data, signal), json: () => written(prettyJSON(text)), text: () => written(text),
      hex: () => hex(data) }[kind](),
    h('div', { class: 'payload-foot' },
      h('span', { class: 'faint' }, t('payload.as', { kind: t(`payload.${kind}`), size: bytes(data.length) })),
      button(t('payload.download'), () => save(data, nameOf(record)), { kind: 'quiet', glyph: 'download' })));
}

const written = (text) => [
  h('pre', { tabindex: '0', 'aria-label': t('record.payload') }, text.slice(0, shownText)),
  text.length > shownText && h('p', { class: 'hint' }, t('payload.cut', { size: bytes(shownText) })),
];

function picture(record, data, signal) {
  const url = URL.createObjectURL(new Blob([data], { type: mediaType(record) }));
  signal.addEventListener('abort', () => URL.revokeObjectURL(url));
  return h('img', { src: url, alt: t('payload.alt', { key: record.key || t('payload.noKey') }) });
}

/** hex shows bytes in rows of sixteen: place, bytes, and the letters among them. */
function hex(data) {
  const rows = [];
  for (let at = 0; at < Math.min(data.length, shownHex); at += 16) {
    const part = data.subarray(at, at + 16);
    const letters = Array.from(part, (b) => (b >= 32 && b < 127 ? String.fromCharCode(b) : '·')).join('');
    rows.push(`${at.toString(16).padStart(6, '0')}  ${toHex(part).replace(/../g, '$& ').padEnd(49)} ${letters}`);
  }
  return [
    h('pre', { tabindex: '0', 'aria-label': t('record.payload') }, rows.join('\n')),
    data.length > shownHex && h('p', { class: 'hint' }, t('payload.cut', { size: bytes(shownHex) })),
  ];
}

const endings = { 'text/plain': 'txt', 'text/csv': 'csv', 'application/json': 'json', 'image/png': 'png',
  'image/jpeg': 'jpg', 'image/gif': 'gif', 'image/webp': 'webp', 'application/pdf': 'pdf' };

const nameOf = (record) => `record-${record.block}-${record.offset}.${endings[mediaType(record)] ?? 'bin'}`;
