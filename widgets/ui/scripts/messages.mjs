// The catalogue of everything the front end says, for translators: `locale/rootbound.pot`.
//
// `npm run messages` writes it anew; a test fails while it is stale, or while anything is said
// that does not go through Lab's translator.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

import ts from 'typescript';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const CATALOGUE = join(ROOT, 'locale/rootbound.pot');

// How many texts a method takes before its values, and whether the first one is a context.
const METHODS = { __: [0, 1], _n: [0, 2], _p: [1, 1], _np: [1, 2] };
const SHOWN_ATTRIBUTES = new Set(['title', 'label', 'placeholder', 'alt', 'aria-label']);
const SHOWN_PROPERTIES = new Set(['label', 'caption', 'title', 'placeholder']);
// Names of formats and the like are the same in every language.
const WORDS = /\p{L}\p{Ll}/u;
// As JupyterLab's server looks for them in a schema of settings.
const SCHEMA = [
  [/^(title|description)$/, 'schema'],
  [/^properties\/[^/]+\/(title|description)$/, 'settings'],
  [/^jupyter\.lab\.setting-icon-label$/, 'settings'],
  [/^jupyter\.lab\.menus\/.*\/label$/, 'menu']
];

/** All messages, and all that is shown without being one. */
export function scan() {
  const messages = new Map();
  const loose = [];
  const add = (place, id, plural = null, context = null) => {
    const key = `${context ?? ''}\u0004${id}`;
    const known = messages.get(key) ?? { id, plural, context, places: new Set() };
    if (known.plural !== plural) {
      // A catalogue holds one form of a message, so that the other would not be translated.
      loose.push(`${place} says “${id}” with another plural than elsewhere`);
    }
    known.places.add(place);
    messages.set(key, known);
  };
  for (const path of sources(join(ROOT, 'src'))) {
    scanSource(path, add, loose);
  }
  scanSchema(join(ROOT, 'schema/plugin.json'), add);
  const sorted = [...messages.values()].sort(
    (one, other) => compare(one.id, other.id) || compare(one.context ?? '', other.context ?? '')
  );
  return { messages: sorted, loose };
}

function compare(one, other) {
  return one < other ? -1 : one > other ? 1 : 0;
}

function sources(folder) {
  return readdirSync(folder, { recursive: true })
    .map(String)
    .filter(name => /\.tsx?$/.test(name))
    .sort()
    .map(name => join(folder, name));
}

function scanSource(path, add, loose) {
  const source = ts.createSourceFile(
    path,
    readFileSync(path, 'utf8'),
    ts.ScriptTarget.Latest,
    true,
    path.endsWith('x') ? ts.ScriptKind.TSX : ts.ScriptKind.TS
  );
  const place = relative(ROOT, path);
  const report = (node, what) => {
    const { line } = source.getLineAndCharacterOfPosition(node.getStart());
    loose.push(`${place}:${line + 1} ${what}`);
  };
  const visit = node => {
    if (ts.isCallExpression(node) && ts.isPropertyAccessExpression(node.expression)) {
      const { text: name } = node.expression.name;
      const method = Object.hasOwn(METHODS, name) ? METHODS[name] : null;
      const first = node.arguments[0];
      // The server's sentences come translated, or not at all; see `sentence`.
      const dynamic = first && ts.isPropertyAccessExpression(first) && first.name.text === 'detail';
      if (method && !dynamic) {
        const [contexts, texts] = method;
        const found = node.arguments.slice(0, contexts + texts).map(textOf);
        if (found.length < contexts + texts || found.includes(null)) {
          report(node, `translates what is not written there: ${node.getText().slice(0, 60)}`);
        } else {
          add(place, found[contexts], found[contexts + 1] ?? null, contexts ? found[0] : null);
        }
      }
    } else if (ts.isNewExpression(node) && node.expression.getText() === 'ProblemError') {
      const text = node.arguments?.[0] && textOf(node.arguments[0]);
      if (text) {
        add(place, text);
      }
    } else if (ts.isJsxText(node) && WORDS.test(node.text) && !isCode(node)) {
      report(node, `says “${node.text.trim()}”`);
    } else if (ts.isJsxAttribute(node) && SHOWN_ATTRIBUTES.has(node.name.getText())) {
      const text = node.initializer && ts.isStringLiteral(node.initializer) && node.initializer.text;
      if (text && WORDS.test(text) && !isCommand(text)) {
        report(node, `says “${text}”`);
      }
    } else if (ts.isJsxExpression(node) && !ts.isJsxAttribute(node.parent) && !isCode(node)) {
      for (const text of saidBy(node.expression)) {
        if (WORDS.test(text)) {
          report(node, `says “${text}”`);
        }
      }
    } else if (ts.isPropertyAssignment(node) && SHOWN_PROPERTIES.has(node.name.getText())) {
      const text = textOf(node.initializer);
      if (text && WORDS.test(text) && !isCommand(text) && text !== 'Rootbound') {
        report(node, `says “${text}”`);
      }
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
}

/** A text as it is written, in pieces or not; null for anything else. */
function textOf(node) {
  if (ts.isStringLiteral(node) || ts.isNoSubstitutionTemplateLiteral(node)) {
    return node.text;
  }
  if (ts.isBinaryExpression(node) && node.operatorToken.kind === ts.SyntaxKind.PlusToken) {
    const left = textOf(node.left);
    const right = textOf(node.right);
    return left === null || right === null ? null : left + right;
  }
  return null;
}

/** Texts that an expression in a view may come to. */
function saidBy(node) {
  if (!node) {
    return [];
  }
  if (ts.isConditionalExpression(node)) {
    return [...saidBy(node.whenTrue), ...saidBy(node.whenFalse)];
  }
  if (ts.isBinaryExpression(node)) {
    return saidBy(node.right);
  }
  if (ts.isTemplateExpression(node)) {
    return [node.head.text, ...node.templateSpans.map(span => span.literal.text)];
  }
  const text = textOf(node);
  return text === null ? [] : [text];
}

function isCode(node) {
  for (let at = node.parent; at; at = at.parent) {
    if (ts.isJsxElement(at) && /^(code|pre|kbd)$/.test(at.openingElement.tagName.getText())) {
      return true;
    }
  }
  return false;
}

/** Whether a text is something to type, not to read. */
function isCommand(text) {
  return /^(python|ruff|\/|[a-z-]+:)/.test(text);
}

function scanSchema(path, add) {
  const place = relative(ROOT, path);
  const visit = (node, at) => {
    for (const [name, value] of Object.entries(node)) {
      const here = at ? `${at}/${name}` : name;
      const found = SCHEMA.find(([pattern]) => pattern.test(here));
      if (typeof value === 'string' && found) {
        add(place, value, null, found[1]);
      } else if (typeof value === 'object' && value !== null) {
        visit(value, here);
      }
    }
  };
  visit(JSON.parse(readFileSync(path, 'utf8')), '');
}

/** The catalogue as it is in the repository. */
export function committed() {
  return readFileSync(CATALOGUE, 'utf8');
}

/** The messages as a gettext template. */
export function template(messages) {
  const quote = text => JSON.stringify(text).replace(/\\u00([0-9a-f]{2})/g, '\\x$1');
  const entries = messages.map(({ id, plural, context, places }) => [
    ...[...places].sort().map(place => `#: ${place}`),
    ...(context === null ? [] : [`msgctxt ${quote(context)}`]),
    `msgid ${quote(id)}`,
    ...(plural === null
      ? ['msgstr ""']
      : [`msgid_plural ${quote(plural)}`, 'msgstr[0] ""', 'msgstr[1] ""'])
  ]);
  const head = [
    'msgid ""',
    'msgstr ""',
    '"Project-Id-Version: rootbound\\n"',
    '"MIME-Version: 1.0\\n"',
    '"Content-Type: text/plain; charset=UTF-8\\n"',
    '"Content-Transfer-Encoding: 8bit\\n"',
    '"Plural-Forms: nplurals=2; plural=(n != 1);\\n"'
  ];
  return `${[head, ...entries].map(lines => lines.join('\n')).join('\n\n')}\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { messages, loose } = scan();
  writeFileSync(CATALOGUE, template(messages));
  process.stdout.write(`${messages.length} messages in ${relative(ROOT, CATALOGUE)}\n`);
  for (const place of loose) {
    process.stderr.write(`not translated: ${place}\n`);
    process.exitCode = 1;
  }
}
