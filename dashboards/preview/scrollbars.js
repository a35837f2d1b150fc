// Stands in for react-custom-scrollbars-2, whose default export esbuild hands to Grafana's modules wrapped.
export { Scrollbars as default } from './node_modules/react-custom-scrollbars-2/lib/index.js';
