import type { JSX } from 'preact';
import { useMemo, useState } from 'preact/hooks';

import { type Piece, coloured } from '../model/ansi';
import { Output } from '../model/output';
import { useTrans } from './context';
import { Windowed } from './windowed';

/** Texts up to this length are shown in the line of their label. */
export const PREVIEW_CHARS = 90;

// Up to so many lines a block is one text; beyond, only those in view are in the document.
const WHOLE_LINES = 200;
const WHOLE_CHARS = 100_000;
const LINE_ESTIMATE_PX = 17;
// No line is read further than this; copy and download have all of it.
const MOST_CHARS = 4_000;

interface BlockProps {
  label: string;
  text: string | Output;
}

/** A named text of a stream's entry: an argument, a command's output, a result. */
export function Block({ label, text }: BlockProps): JSX.Element | null {
  const output = useMemo(() => (typeof text === 'string' ? Output.of(text) : text), [text]);
  const { count, lines } = output;
  if (count === 0) {
    return null;
  }
  if (count === 1 && lines.length === 1 && (lines[0]?.length ?? 0) <= PREVIEW_CHARS) {
    return (
      <div class="jp-rootbound-Block jp-mod-inline">
        <span class="jp-rootbound-Muted">{label}</span> <code>{lines[0]}</code>
      </div>
    );
  }
  return (
    <div class="jp-rootbound-Block">
      <span class="jp-rootbound-Muted">{label}</span>
      {count > WHOLE_LINES || output.size > WHOLE_CHARS ? (
        <Long label={label} output={output} atEnd={typeof text !== 'string'} />
      ) : (
        <pre class="jp-rootbound-Code">{coloured(output.text).map(drawn)}</pre>
      )}
    </div>
  );
}

interface LongProps {
  label: string;
  output: Output;
  /** Begin at the end and stay there, as a terminal does. */
  atEnd: boolean;
}

/** Of many lines, those in view. */
function Long({ label, output, atEnd }: LongProps): JSX.Element {
  const trans = useTrans();
  const [follow, setFollow] = useState(atEnd);
  return (
    <div class="jp-rootbound-Code jp-mod-long">
      <Windowed
        count={output.count}
        keyAt={index => index}
        render={index => <Row output={output} index={index} />}
        estimate={LINE_ESTIMATE_PX}
        label={trans.__('%1, %2 lines', label, output.count)}
        role="region"
        follow={follow}
        onFollow={on => setFollow(on && atEnd)}
      />
    </div>
  );
}

function Row({ output, index }: { output: Output; index: number }): JSX.Element {
  const trans = useTrans();
  const line = output.lines[index] ?? '';
  const more = line.length - MOST_CHARS;
  const pieces = coloured(more > 0 ? line.slice(0, MOST_CHARS) : line, output.styleOf(index));
  return (
    <>
      {pieces.map(drawn)}
      {more > 0 && (
        <em class="jp-rootbound-Muted">
          {trans._n('… %1 more character', '… %1 more characters', more)}
        </em>
      )}
    </>
  );
}

function drawn(piece: Piece, index: number): JSX.Element | string {
  return piece.classes ? (
    <span key={index} class={piece.classes}>
      {piece.text}
    </span>
  ) : (
    piece.text
  );
}
