import type { JSX } from 'preact';

import type { Place } from '../model/work';
import { type ReviewStore, placeKey } from '../stores/review';
import { clock } from '../model/format';
import { Button } from './common';
import { useTrans } from './context';

interface RemarksProps {
  store: ReviewStore;
  place: Place;
  /** Between the rows of a patch, which is a table. */
  inTable?: boolean;
}

/** The comments at one place, and the one that is being written there. */
export function Remarks({ store, place, inTable }: RemarksProps): JSX.Element | null {
  const trans = useTrans();
  const key = placeKey(place);
  const comments = store.byPlace.value.get(key) ?? [];
  const draft = store.drafts.value.get(key);
  if (comments.length === 0 && draft === undefined) {
    return null;
  }
  return (
    <div role={inTable ? 'row' : undefined}>
      <div class="jp-rootbound-Remarks" role={inTable ? 'cell' : undefined}>
        {comments.map(comment => (
          <article key={comment.id} class="jp-rootbound-Remark" aria-label={trans.__('Comment')}>
            <header class="jp-rootbound-Muted">
              {comment.author} {clock(comment.created_at)}
              {comment.commit !== null &&
                comment.commit !== store.attempt.value?.head_commit &&
                ` · ${trans.__('on an earlier commit')}`}
              <Button
                label={trans.__('Delete the comment')}
                disabled={store.busy.value}
                onClick={() => void store.removeComment(comment.id)}
              >
                ×
              </Button>
            </header>
            <p class="jp-rootbound-Text">{comment.text}</p>
          </article>
        ))}
        {draft !== undefined && (
          <form
            class="jp-rootbound-Form"
            onSubmit={event => {
              event.preventDefault();
              void store.comment(place);
            }}
            onKeyDown={event => {
              event.stopPropagation();
              if (event.key === 'Escape') {
                store.write(place, null);
              } else if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
                event.preventDefault();
                void store.comment(place);
              }
            }}
          >
            <textarea
              class="jp-rootbound-Input"
              rows={2}
              aria-label={trans.__('Comment')}
              placeholder={trans.__('What should be different here?')}
              value={draft}
              ref={area => {
                if (area && draft === '') {
                  area.focus();
                }
              }}
              onInput={event => store.write(place, event.currentTarget.value)}
            />
            <div class="jp-rootbound-Row">
              <button
                type="submit"
                class="jp-rootbound-Button jp-mod-primary"
                disabled={store.busy.value || !draft.trim()}
              >
                {trans.__('Comment')}
              </button>
              <Button onClick={() => store.write(place, null)}>{trans.__('Discard')}</Button>
            </div>
          </form>
        )}
      </div>
    </div>
  );
}
