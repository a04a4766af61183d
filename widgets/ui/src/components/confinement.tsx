import type { JSX } from 'preact';

import type { LdaReport } from '../model/types';
import { useTrans } from './context';

/** What this machine enforces: the tier, each guarantee and what keeps it, and what is missing. */
export function Confinement({ lda }: { lda: LdaReport | undefined }): JSX.Element {
  const trans = useTrans();
  const sandbox = lda?.sandbox;
  const missing = sandbox?.missing ?? [];
  const guarantees = sandbox?.guarantees ?? [];
  return (
    <>
      {!lda?.reachable && (
        <p class="jp-rootbound-Failure" role="alert">
          {lda?.detail ??
            trans.__('The local agent does not answer; attempts wait until it does.')}
        </p>
      )}
      {sandbox?.tier && (
        <p>
          <span class="jp-rootbound-Tier" data-tier={sandbox.tier}>
            {trans.__('Tier %1', sandbox.tier)}
          </span>
          {missing.length === 0 && (
            <span class="jp-rootbound-Muted"> {trans.__('Nothing is missing.')}</span>
          )}
        </p>
      )}
      {missing.length > 0 && (
        <>
          <p>{trans.__('What is missing:')}</p>
          <ul class="jp-rootbound-Missing">
            {missing.map(sentence => (
              <li key={sentence}>{sentence}</li>
            ))}
          </ul>
        </>
      )}
      {guarantees.length > 0 && (
        <table class="jp-rootbound-Table">
          <caption class="jp-rootbound-hidden">{trans.__('Guarantees')}</caption>
          <thead>
            <tr>
              <th scope="col">{trans.__('Guarantee')}</th>
              <th scope="col">{trans.__('Kept by')}</th>
            </tr>
          </thead>
          <tbody>
            {guarantees.map(one => (
              <tr key={one.title} data-kept={one.by !== null}>
                <td>{one.title.replace(/`/g, '')}</td>
                <td>{one.by ?? trans.__('not kept on this machine')}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </>
  );
}
