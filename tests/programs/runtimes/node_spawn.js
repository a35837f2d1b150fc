#!/usr/bin/node
// node_spawn.js [--count 3] [--program /bin/true]: child_process.spawn, which waits for the end of libuv's errpipe.
'use strict';
const { spawn } = require('child_process');
const { once } = require('events');
const { writeSync } = require('fs');

const option = (name, otherwise) => {
  const at = process.argv.indexOf(name);
  return at < 0 ? otherwise : process.argv[at + 1];
};
const emit = (fields) => writeSync(1, JSON.stringify(fields) + '\n');

(async () => {
  const count = Number(option('--count', 3));
  for (let n = 0; n < count; n++) {
    const start = process.hrtime.bigint();
    const child = spawn(option('--program', '/bin/true'), [], { stdio: 'pipe' });
    const seconds = Number(process.hrtime.bigint() - start) / 1e9;
    const failed = child.pid === undefined;
    emit({ kind: 'spawn', pid: process.pid, child: child.pid ?? null, seconds, failed });
    await once(child, failed ? 'error' : 'close');
  }
  emit({ kind: 'done', spawns: count });
})();
