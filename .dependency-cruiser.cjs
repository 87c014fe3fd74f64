// The walls of the house (docs/design.md, section 1): which package may import which, and which room which.
const walls = {
  device: [],
  ocfs2: ['device'],
  o2cb: ['device'],
  nbd: ['device'],
  fuse: ['device'],
  san: ['device'],
  qemu: ['device'],
  host: ['device', 'ocfs2', 'o2cb', 'nbd', 'fuse', 'san', 'qemu'],
  control: ['device'],
  cli: ['device', 'ocfs2', 'o2cb', 'nbd', 'fuse', 'san', 'qemu', 'host', 'control'],
  sim: ['device', 'ocfs2', 'o2cb', 'host'],
};
const core = ['device', 'ocfs2', 'o2cb', 'nbd', 'fuse', 'san', 'qemu'];

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    ...Object.entries(walls).map(([name, may]) => ({
      name: `wall-of-${name}`,
      severity: 'error',
      comment: `${name} may import ${may.length > 0 ? may.join(', ') : 'no other package'} (docs/design.md, section 1)`,
      from: { path: `^packages/${name}/src/` },
      to: { path: '^packages/', pathNot: `^packages/(${[name, ...may].join('|')})/` },
    })),
    {
      name: 'only-the-public-face',
      severity: 'error',
      comment: "a package's index is its whole public face (ocfs2 has a second, check): import '@lunfs/NAME', never a file inside",
      from: { path: '^packages/([^/]+)/' },
      to: { path: '^packages/', pathNot: '^packages/$1/|^packages/[^/]+/dist/index\\.d?\\.?[jt]s$|^packages/ocfs2/dist/check/index\\.d?\\.?[jt]s$' },
    },
    {
      name: 'unknown-package',
      severity: 'error',
      comment: 'every package needs its line in the table of walls',
      from: { path: '^packages/', pathNot: `^packages/(${Object.keys(walls).join('|')})/` },
      to: {},
    },
    {
      name: 'core-has-no-dependency',
      severity: 'error',
      comment: 'core packages have no runtime dependency (docs/design.md, section 1)',
      from: { path: `^packages/(${core.join('|')})/src/` },
      to: { dependencyTypes: ['npm', 'npm-dev', 'npm-optional', 'npm-peer', 'npm-no-pkg', 'npm-unknown'], pathNot: '^packages/' },
    },
    {
      name: 'format-does-no-io',
      severity: 'error',
      comment: 'ocfs2/format is codecs only: no other room of ocfs2, no I/O',
      from: { path: '^packages/ocfs2/src/format/' },
      to: { path: '^packages/ocfs2/src/', pathNot: '^packages/ocfs2/src/format/' },
    },
    {
      name: 'format-imports-no-node-io',
      severity: 'error',
      comment: 'ocfs2/format is codecs only: no other room of ocfs2, no I/O',
      from: { path: '^packages/ocfs2/src/format/' },
      to: { dependencyTypes: ['core'], pathNot: '^(node:)?(zlib|buffer|util|crypto|assert)$' },
    },
    { name: 'no-cycle', severity: 'error', comment: 'modules form no cycle', from: {}, to: { circular: true } },
    {
      name: 'resolvable',
      severity: 'error',
      comment: 'every import must resolve (build first: packages resolve to dist)',
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: 'src-does-not-import-tests',
      severity: 'error',
      from: { path: '^packages/[^/]+/src/' },
      to: { path: '(^|/)test/' },
    },
  ],
  options: {
    doNotFollow: { path: ['node_modules', '/dist/'] },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.base.json' },
    combinedDependencies: false,
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default'], extensions: ['.ts', '.js', '.json'] },
  },
};
