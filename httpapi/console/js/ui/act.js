// An act of the audit trail, as parts of a page. Acts of newer programs are named by their number.

import { hasText, number, t } from '../i18n.js';
import { href } from '../router.js';
import { changes } from '../trail.js';
import { h } from './dom.js';
import { facts } from './parts.js';

/** actName names an act, with its phase or outcome unless the act was done by the commit that recorded it. */
export function actName({ act, phase, outcome }) {
  const name = hasText(`act.${act}`) ? t(`act.${act}`) : act;
  if (phase === 'done') return name;
  let how = hasText(`phase.${phase}`) ? t(`phase.${phase}`) : phase;
  if (phase === 'outcome') how = hasText(`outcome.${outcome}`) ? t(`outcome.${outcome}`) : outcome;
  return [name, ' ', h('span', { class: 'badge' }, how)];
}

/** actorName names who caused an act. */
export const actorName = ({ kind, name }) => [
  hasText(`actor.${kind}`) ? t(`actor.${kind}`) : kind, name ? [' ', h('span', { class: 'mono' }, name)] : null];

/** changeList shows what has changed. Values were entered by users. */
export const changeList = (record) => changes(record).map(({ name, before, after }, i) => [
  i > 0 && ', ', h('span', { class: 'faint' }, `${name}: `),
  before === undefined || before === after ? null : [h('span', {}, before || '—'), ' → '],
  h('span', {}, after === undefined ? t('audit.gone') : after || '—')]);

/** targetLink is the target of an act, as a link to its history. */
export const targetLink = (key) => h('a', { href: href('audit', { target: key }) }, h('code', {}, key));

/** actFacts shows all of an act. */
export const actFacts = (record, key) => facts(
  [t('audit.act'), h('span', {}, actName(record))],
  [t('audit.actor'), h('span', {}, actorName(record.actor))],
  record.actor.role && [t('audit.role'), record.actor.role],
  record.source.address && [t('audit.from'), h('code', {}, record.source.address)],
  record.source.member && [t('audit.through'), h('code', {}, record.source.member)],
  [t('audit.target'), targetLink(key)],
  record.phase === 'outcome' &&
    [t('audit.intent'), h('a', { href: href(`index/${record.intent}`, { as: 'audit' }) }, number(record.intent))],
  ...record.before.map((v) => [t('audit.before', { name: v.name }), v.value || '—']),
  ...record.after.map((v) => [t('audit.after', { name: v.name }), v.value || '—']));
