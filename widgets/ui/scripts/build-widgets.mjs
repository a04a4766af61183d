// Bundle each notebook widget into one ES module and one style sheet.
//
// A notebook saves both once for each kind of widget; `loader` is what every single widget carries.
// Size is a budget, and there are no maps.
import { readFile, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

import { build } from 'esbuild';

const BUDGET_GZIP_BYTES = 60 * 1024;
const NAMES = [
  'task_board',
  'attempt_stream',
  'audit_table',
  'cost_chart',
  'diff_view',
  'stack_status',
  'loader'
];
const root = fileURLToPath(new URL('..', import.meta.url));
const outdir = join(root, '../rootbound/static');

await rm(outdir, { recursive: true, force: true });
await build({
  absWorkingDir: root,
  entryPoints: NAMES.map(name => `src/widgets/${name}.ts`),
  outdir,
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  charset: 'utf8',
  legalComments: 'none',
  logLevel: 'warning'
});

for (const file of (await readdir(outdir)).sort()) {
  const bytes = await readFile(join(outdir, file));
  const packed = gzipSync(bytes).length;
  process.stdout.write(`${file.padEnd(20)} ${bytes.length} bytes, ${packed} gzipped\n`);
  if (packed > BUDGET_GZIP_BYTES) {
    process.stderr.write(`${file} is over the budget of ${BUDGET_GZIP_BYTES} bytes gzipped\n`);
    process.exitCode = 1;
  }
}
