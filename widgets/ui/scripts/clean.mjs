// Remove what the build made.
import { rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

const OUTPUTS = [
  '../lib',
  '../../rootbound/static',
  '../../../server_ext/rootbound_server_ext/labextension'
];

for (const output of OUTPUTS) {
  await rm(fileURLToPath(new URL(output, import.meta.url)), { recursive: true, force: true });
}
