// A record's payload, which is untrusted. It is shown as text, as a picture, or in hex. It is never executed and never
// parsed as HTML.

import { fromBase64, toHex } from '../bytes.js';
import { bytes, t } from '../i18n.js';
import { parse, type as auditType } from '../trail.js';
import { actFacts } from './act.js';
import { h } from './dom.js';
import { button } from './parts.js';
import { save } from './save.js';

/** pictures are the types that a browser only draws. SVG can contain scripts, so it is shown as text. */
const pictures = ['image/png', 'image/jpeg', 'image/gif', 'image/webp', 'image/avif', 'image/bmp'];

const shownText = 256 * 1024; // characters
const shownHex = 2048; // bytes
const previewed = 80; // characters

/** textOf decodes bytes as UTF-8. It returns null if they are not UTF-8, or have characters that text does not have. */
function textOf(data) {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(data);
    return /[\u0000-\u0008\u000e-\u001a]/.test(text) ? null : text;
  } catch {
    return null;
  }
}

const mediaType = (record) => record.type.split(';')[0].trim().toLowerCase();

/** kindOf returns how a payload is shown: "audit", "picture", "json", "text" or "hex". */
function kindOf(record, data, text) {
  const type = mediaType(record);
  if (type === auditType && record.project === '_audit' && parse(data)) return 'audit';
  if (pictures.includes(type)) return 'picture';
  if (text === null) return 'hex';
  if ((type === 'application/json' || type.endsWith('+json')) && prettyJSON(text) !== null) return 'json';
  return 'text';
}

/**
 * prettyJSON indents JSON. It returns null if the text is not JSON. It does not change tokens: parsing and formatting
 * would change numbers outside the range of JavaScript.
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

/** preview returns the start of a payload in one line. */
export function preview(record) {
  const data = fromBase64(record.payload);
  const text = textOf(data.subarray(0, 4 * previewed)) ?? textOf(trimmed(data, 4 * previewed));
  if (pictures.includes(mediaType(record))) return h('span', { class: 'faint' }, t('payload.picture'));
  if (text === null) return h('code', { class: 'preview faint' }, toHex(data.subarray(0, 16)).replace(/../g, '$& '));
  return h('span', { class: 'preview' }, text.slice(0, previewed).replace(/\s+/g, ' '));
}

/** trimmed truncates bytes at the end of a character. */
function trimmed(data, length) {
  let end = Math.min(length, data.length);
  while (end > 0 && end < data.length && (data[end] & 0xc0) === 0x80) end--;
  return data.subarray(0, end);
}

/** payload shows the payload of a record. signal is aborted with the page, and releases the memory of a picture. */
export function payload(record, signal) {
  const data = fromBase64(record.payload);
  const text = textOf(data);
  const kind = kindOf(record, data, text);
  return h('div', { class: `payload payload-${kind}` },
    { picture: () => picture(record, data, signal), json: () => written(prettyJSON(text)), text: () => written(text),
      hex: () => hex(data), audit: () => actFacts(parse(data), record.key) }[kind](),
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

/** hex shows bytes in rows of sixteen: offset, bytes, and printable characters. */
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
