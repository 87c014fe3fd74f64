/**
 * The grammar of cluster.conf, as the JConfig parser of ocfs2-tools reads it (o2cb_ctl/jconfig.c), kept line by line: what is not
 * changed is written back byte for byte, comments, order and unknown keys included.
 *
 * Facts that surprise: an empty or blank line ends a stanza, a comment doesn't; a comment begins in column 1; the rest of an
 * attribute's line is its value, `#` included, blanks at its end not (but they count where a node names its cluster); a backslash before the newline continues it on the next line;
 * of an attribute given twice the last counts. The tools refuse a file with any malformed line, so do we, by its number.
 */
import { UsageError } from '@lunfs/device';

/** One attribute; `line` counts from 1. */
interface Attribute {
  readonly name: string;
  readonly value: string;
  readonly line: number;
}

/** A stanza as it was read: `name:` and its attributes. */
export class Stanza {
  readonly attributes: Attribute[] = [];

  constructor(readonly name: string, readonly line: number) {}

  /** Without the blanks at its end. */
  get(attribute: string): string | undefined {
    return this.raw(attribute)?.trimEnd();
  }

  /** As it stands there: what the tools compare. */
  raw(attribute: string): string | undefined {
    return this.attributes.findLast(({ name }) => name === attribute)?.value;
  }

  /** Where the attribute stands, or the stanza if it has none of the name: for messages. */
  lineOf(attribute: string): number {
    return this.attributes.findLast(({ name }) => name === attribute)?.line ?? this.line;
  }
}

/** A file of stanzas. */
export class Document {
  readonly stanzas: readonly Stanza[];
  readonly #lines: readonly string[];

  private constructor(readonly file: string, lines: readonly string[]) {
    this.#lines = lines;
    this.stanzas = parse(file, lines);
  }

  /** `file` is for messages. Throws BAD_CLUSTER_CONF with the line that the tools would refuse. */
  static parse(text: string, file: string): Document {
    const lines = text.split('\n');
    if (lines.at(-1) === '') lines.pop();
    return new Document(file, lines);
  }

  get text(): string {
    return this.#lines.map((line) => `${line}\n`).join('');
  }

  /** With one attribute of a stanza replaced where it stands (the last, if it is there twice), or added as the stanza's first. */
  withAttribute(stanza: Stanza, name: string, value: string): Document {
    const lines = [...this.#lines];
    const old = stanza.attributes.findLast((one) => one.name === name);
    const text = `\t${name} = ${value}`.split('\n').map((line, i, all) => (i < all.length - 1 ? `${line}\\` : line));
    if (old) lines.splice(old.line - 1, this.#extent(old.line - 1), ...text);
    else lines.splice(stanza.line, 0, ...text);
    return new Document(this.file, lines);
  }

  /** With a stanza at the end, an empty line before and after it. */
  withStanza(name: string, attributes: Readonly<Record<string, string>>): Document {
    const lines = [...this.#lines];
    if (lines.length > 0 && lines.at(-1)!.trim() !== '') lines.push('');
    lines.push(`${name}:`, ...Object.entries(attributes).map(([key, value]) => `\t${key} = ${value}`), '');
    return new Document(this.file, lines);
  }

  /** Without some stanzas, what stands in them and the empty line that ends each. */
  without(stanzas: readonly Stanza[]): Document {
    const gone = new Set<number>();
    for (const stanza of stanzas) {
      const last = stanza.attributes.at(-1)?.line ?? stanza.line;
      const end = last - 1 + (last === stanza.line ? 1 : this.#extent(last - 1));
      for (let i = stanza.line - 1; i < end; i++) gone.add(i);
      if (this.#lines[end]?.trim() === '') gone.add(end);
    }
    return new Document(this.file, this.#lines.filter((_, i) => !gone.has(i)));
  }

  /** Lines of an attribute that begins at the index. */
  #extent(index: number): number {
    let count = 1;
    while (this.#lines[index + count - 1].endsWith('\\') && index + count < this.#lines.length) count++;
    return count;
  }
}

function parse(file: string, lines: readonly string[]): Stanza[] {
  const stanzas: Stanza[] = [];
  let open: Stanza | undefined;
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i];
    const malformed = (what: string): never => {
      throw badConf(file, i + 1, what);
    };
    if (line.includes('\0')) malformed('it holds a NUL byte: is this a text file?');
    // The scanner below the tools' parser would skip everything up to the next "*/", in whatever line it is.
    if (line.includes('/*')) malformed('the tools take "/*" for the begin of a comment; remove it');
    if (line.startsWith('#')) continue;
    if (/^[ \t]*$/.test(line)) {
      open = undefined;
    } else if (/^[ \t]/.test(line)) {
      const match = /^[ \t]+([A-Za-z0-9_]+)[ \t]*=[ \t]*(.*)$/s.exec(line);
      if (!match) malformed('an attribute is written "<tab>name = value"');
      if (!open) malformed('an attribute must stand in a stanza; a blank line ends one. Remove the blank line before it');
      let value = match![2];
      const first = i + 1;
      // A backslash that ends the last line of the file continues nothing and is dropped.
      for (; value.endsWith('\\'); ) {
        value = value.slice(0, -1);
        if (i + 1 === lines.length) break;
        value += `\n${lines[++i]}`;
      }
      open!.attributes.push({ name: match![1], value, line: first });
    } else {
      const match = /^([A-Za-z0-9_]+):[ \t]*$/.exec(line);
      if (!match) malformed('a stanza begins "name:" in the first column, an attribute after a tab, a comment with "#" in the first column');
      open = new Stanza(match![1], i + 1);
      stanzas.push(open);
    }
  }
  return stanzas;
}

/** What is wrong in which line of a cluster.conf, and what to do. */
export function badConf(file: string, line: number, what: string, fields: Readonly<Record<string, string | number>> = {}): UsageError {
  return new UsageError('BAD_CLUSTER_CONF', 'EINVAL', `${file}, line ${line}: ${what}`, { file, line, ...fields });
}
