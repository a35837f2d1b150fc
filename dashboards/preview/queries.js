// Sends a panel's queries to Prometheus and converts the answers to Grafana's data frames, ready to be drawn.

import { FieldType, fieldReducers, getDisplayProcessor, standardTransformers, toDataFrame } from '@grafana/data';
import { standardTransformersRegistry, transformDataFrame } from '@grafana/data';
import { lastValueFrom } from 'rxjs';

const LINE = { drawStyle: 'line', lineWidth: 1, showPoints: 'never', spanNulls: false, fillOpacity: 0,
  axisPlacement: 'auto', scaleDistribution: { type: 'linear' }, hideFrom: { viz: false, legend: false, tooltip: false } };

const CELL = { align: 'auto', cellOptions: { type: 'auto' }, inspect: false };

export function registerTransformers() {
  const { mergeTransformer, organizeFieldsTransformer, orderFieldsTransformer, filterFieldsByNameTransformer,
    renameFieldsTransformer, filterFieldsTransformer } = standardTransformers;
  const used = [mergeTransformer, organizeFieldsTransformer, orderFieldsTransformer, filterFieldsByNameTransformer,
    renameFieldsTransformer, filterFieldsTransformer];
  standardTransformersRegistry.setInit(() => used.map((transformation) => ({
    id: transformation.id, name: transformation.name, transformation })));
}

export async function framesOf(panel, preview, theme) {
  const answers = await Promise.all(panel.targets.map((target) => ask(target, preview, panel.targets.length > 1)));
  let frames = answers.flat();
  if (panel.transformations) {
    frames = await lastValueFrom(transformDataFrame(panel.transformations, frames));
  }
  frames.forEach((frame) => frame.fields.forEach((field) => configure(field, panel)));
  let series = 0;
  for (const field of frames.flatMap((frame) => frame.fields)) {
    if (field.type === FieldType.number) field.state = { ...field.state, seriesIndex: series++ };
    field.display = getDisplayProcessor({ field, theme, timeZone: 'utc' });
  }
  return frames;
}

async function ask(target, { prometheus, variables, from, to, step }, many) {
  let expr = target.expr;
  for (const name of Object.keys(variables).sort((a, b) => b.length - a.length)) {
    expr = expr.replaceAll(`$${name}`, variables[name]);
  }
  const query = new URLSearchParams(target.instant ? { query: expr, time: to } : { query: expr, start: from, end: to, step });
  const answer = await fetch(`${prometheus}/api/v1/${target.instant ? 'query' : 'query_range'}?${query}`);
  const { data, error } = await answer.json();
  if (error) throw new Error(`${expr}: ${error}`);
  if (target.instant) return target.format === 'table' ? [tableFrame(target, data.result, many)] : data.result.map((one) => (
    seriesFrame(target, one.metric, [one.value])));
  return data.result.map((one) => seriesFrame(target, one.metric, filled(one.values, from, to, step)));
}

// A gap stays a gap.
function filled(values, from, to, step) {
  const known = new Map(values);
  const points = [];
  for (let time = from; time <= to; time += step) points.push([time, known.get(time) ?? null]);
  return points;
}

function seriesFrame(target, labels, values) {
  const legend = (target.legendFormat ?? '').replace(/{{(\w+)}}/g, (_, name) => labels[name] ?? '');
  return toDataFrame({ refId: target.refId, fields: [
    { name: 'Time', type: FieldType.time, values: values.map(([time]) => time * 1000) },
    { name: 'Value', type: FieldType.number, labels, config: { displayNameFromDS: legend },
      values: values.map(([, value]) => (value === null ? null : Number(value))) } ] });
}

function tableFrame(target, result, many) {
  const labels = [...new Set(result.flatMap((one) => Object.keys(one.metric)))];
  return toDataFrame({ refId: target.refId, fields: [
    { name: 'Time', type: FieldType.time, values: result.map((one) => one.value[0] * 1000) },
    ...labels.map((name) => ({ name, type: FieldType.string, values: result.map((one) => one.metric[name]) })),
    { name: many ? `Value #${target.refId}` : 'Value', type: FieldType.number, values: result.map((one) => Number(one.value[1])) } ] });
}

function configure(field, panel) {
  const { defaults, overrides } = panel.fieldConfig;
  const name = field.config.displayName ?? field.name;
  const own = overrides.filter((override) => override.matcher.options === name).flatMap((override) => override.properties);
  const units = own.filter((property) => property.id === 'unit').map((property) => ({ unit: property.value }));
  const custom = panel.type === 'timeseries' ? { ...LINE, ...defaults.custom } : { ...CELL, ...defaults.custom };
  field.config = { color: { mode: panel.type === 'stat' ? 'thresholds' : 'palette-classic' }, ...defaults, ...field.config,
    ...Object.assign({}, ...units), custom };
}

export function last(field) {
  return fieldReducers.get('lastNotNull').reduce(field, true, true).lastNotNull;
}
