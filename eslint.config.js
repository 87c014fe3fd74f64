// Type-aware rules only: what biome can say without types, biome says (biome.json).
import tseslint from 'typescript-eslint';

const clockMessage = 'Clocks and timers are passed in (docs/design.md, rule 5): only modules named clock.ts may read or set one.';
const diceMessage = 'Randomness is passed in (docs/design.md, rule 5): only modules named random.ts may roll dice.';
const operationMessage = 'An operation is synchronous from its first change to its end (docs/design.md, rule 6): it throws Need for what it lacks, it never awaits.';
const clockSyntax = [
  { selector: "MemberExpression[object.name='Date'][property.name='now']", message: clockMessage },
  { selector: "NewExpression[callee.name='Date'][arguments.length=0]", message: clockMessage },
  { selector: "MemberExpression[object.name='performance'][property.name='now']", message: clockMessage },
  { selector: "MemberExpression[object.name='process'][property.name='hrtime']", message: clockMessage },
];
const timers = ['setTimeout', 'setInterval'].map((name) => ({ name, message: clockMessage }));

export default tseslint.config(
  { ignores: ['**/dist/**', '**/node_modules/**', '.cache/**', 'scripts/*.mjs', '*.js', '*.ts'] },
  {
    files: ['packages/*/src/**/*.ts', 'packages/*/test/**/*.ts', 'test/**/*.ts', 'bench/**/*.ts', 'scripts/lib/**/*.mjs'],
    languageOptions: {
      parser: tseslint.parser,
      parserOptions: { project: './tsconfig.lint.json', tsconfigRootDir: import.meta.dirname },
    },
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    plugins: { '@typescript-eslint': tseslint.plugin },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/await-thenable': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-unsafe-argument': 'error',
      '@typescript-eslint/no-unsafe-assignment': 'error',
      '@typescript-eslint/no-unsafe-call': 'error',
      '@typescript-eslint/no-unsafe-member-access': 'error',
      '@typescript-eslint/no-unsafe-return': 'error',
      // Need (packages/ocfs2/src/txn/need.ts) is thrown by operations on hot paths; it is no error and takes no stack.
      '@typescript-eslint/only-throw-error': ['error', { allow: [{ from: 'file', name: 'Need' }] }],
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true, allowDefaultCaseForExhaustiveSwitch: true }],
    },
  },
  {
    // JSDoc has no cheap way to narrow what JSON.parse and event listeners give; tsc checks the rest of these files.
    files: ['scripts/lib/**/*.mjs'],
    rules: Object.fromEntries(['argument', 'assignment', 'call', 'member-access', 'return'].map((name) => [`@typescript-eslint/no-unsafe-${name}`, 'off'])),
  },
  {
    files: ['packages/*/src/**/*.ts'],
    ignores: ['**/clock.ts'],
    rules: {
      'no-restricted-globals': ['error', ...timers],
      'no-restricted-imports': ['error', { paths: ['node:timers', 'node:timers/promises'].map((name) => ({ name, message: clockMessage })) }],
      'no-restricted-syntax': ['error', ...clockSyntax],
    },
  },
  {
    files: ['packages/ocfs2/src/**/*.ts'],
    ignores: ['**/clock.ts'],
    rules: {
      'no-restricted-syntax': ['error', ...clockSyntax,
        { selector: ":function[async=true] > Identifier.params > TSTypeAnnotation > TSTypeReference > Identifier[name='Op']", message: operationMessage },
        { selector: 'CallExpression[callee.property.name=/^(run|read|readNow)$/] > :function[async=true]', message: operationMessage },
      ],
    },
  },
  {
    files: ['packages/*/src/**/*.ts'],
    ignores: ['**/random.ts'],
    rules: {
      'no-restricted-properties': ['error', { object: 'Math', property: 'random', message: diceMessage }],
    },
  },
);
