// Draws one dashboard. window.PREVIEW holds its JSON, the address of Prometheus, the time range and the variables.

import { createTheme, dateTime, getValueFormat } from '@grafana/data';
import { BigValue, PanelChrome, Table, ThemeContext, TimeSeries } from '@grafana/ui';
import React from 'react';
import { createRoot } from 'react-dom/client';

import { framesOf, last, registerTransformers } from './queries.js';

const preview = window.PREVIEW;
const theme = createTheme({ colors: { mode: 'light' } });
const COLUMN = preview.width / 24;
const ROW = 36;
const GAP = 8;

function draw(panel, frames, width, height) {
  if (!frames.some((frame) => frame.length)) return <div style={{ padding: 16, textAlign: 'center' }}>No data</div>;
  if (panel.type === 'timeseries') {
    const timeRange = { from: dateTime(preview.from * 1000), to: dateTime(preview.to * 1000), raw: { from: '', to: '' } };
    return <TimeSeries frames={frames} legend={panel.options.legend} timeRange={timeRange} timeZone="utc" width={width}
      height={height} />;
  }
  if (panel.type === 'stat') {
    const field = frames[0].fields[1];
    return <BigValue value={field.display(last(field))} colorMode={panel.options.colorMode} graphMode="none"
      justifyMode="center" textMode="value" theme={theme} width={width} height={height} />;
  }
  if (panel.type === 'table') {
    return <Table data={frames[0]} width={width} height={height} initialSortBy={panel.options.sortBy} />;
  }
  return <Heatmap frames={frames} unit={panel.options.yAxis.unit} width={width} height={height} />;
}

// @grafana/ui has no heatmap; this one only resembles Grafana's.
function Heatmap({ frames, unit, width, height }) {
  const bound = (frame) => Number(frame.fields[1].labels.le.replace('+Inf', 'Infinity'));
  const rows = [...frames].sort((a, b) => bound(a) - bound(b));
  const counts = rows.map((row, index) => row.fields[1].values.map((value, time) => (
    Math.max(0, value - (index ? rows[index - 1].fields[1].values[time] : 0)))));
  const most = Math.max(...counts.flat());
  const used = counts.map((row, index) => [row, rows[index]]).filter(([row]) => row.some((value) => value > 1e-9));
  const [left, bottom] = [70, 20];
  const cell = [(width - left) / used[0][0].length, (height - bottom) / used.length];
  const name = (row) => {
    if (bound(row) === Infinity) return 'more';
    const text = getValueFormat(unit)(bound(row), 1); return `${text.text}${text.suffix ?? ''}`; };
  return <svg width={width} height={height} fontSize="11">
    {used.map(([row, frame], y) => <g key={y} transform={`translate(0 ${height - bottom - (y + 1) * cell[1]})`}>
      <text x={left - 6} y={cell[1] / 2 + 4} textAnchor="end">{name(frame)}</text>
      {row.map((value, x) => value > 1e-9 && <rect key={x} x={left + x * cell[0]} width={cell[0]} height={cell[1] - 1}
        fill={`hsl(28 90% ${95 - 60 * Math.sqrt(value / most)}%)`} />)}
    </g>)}
  </svg>;
}

// A panel that cannot be drawn shows the error and does not affect the others.
class Boundary extends React.Component {
  state = {};
  static getDerivedStateFromError = (error) => ({ error });
  render() { return this.state.error ? <pre>{this.state.error.stack}</pre> : this.props.children; }
}

function Drawn({ panel, frames, width, height }) { return draw(panel, frames, width, height); }

function Panel({ panel, frames }) {
  const { x, y, w, h } = panel.gridPos;
  const place = { position: 'absolute', left: x * COLUMN, top: y * ROW + 48 };
  const size = { width: w * COLUMN - GAP, height: h * ROW - GAP };
  if (panel.type === 'row') return <h4 style={{ ...place, margin: 0, lineHeight: `${ROW}px` }}>{panel.title}</h4>;
  return <div style={place}><Boundary>
    <PanelChrome title={panel.title} description={panel.description} padding={panel.type === 'table' ? 'none' : 'md'}
      {...size}>
      {(width, height) => <Boundary><Drawn {...{ panel, frames, width, height }} /></Boundary>}
    </PanelChrome>
  </Boundary></div>;
}

async function main() {
  registerTransformers();
  const { panels, title } = preview.dashboard;
  const frames = await Promise.all(panels.map((panel) => panel.targets && framesOf(panel, preview, theme)));
  document.body.style.cssText = `margin: 0; font: 14px Inter, sans-serif; color: ${theme.colors.text.primary};
    background: ${theme.colors.background.canvas}`;
  createRoot(document.getElementById('page')).render(<ThemeContext.Provider value={theme}>
    <h3 style={{ margin: 0, padding: '12px 0' }}>{title}</h3>
    {panels.map((panel, index) => <Panel key={panel.id} panel={panel} frames={frames[index]} />)}
  </ThemeContext.Provider>);
}

main().catch((error) => { document.body.textContent = error.stack; });
