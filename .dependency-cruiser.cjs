const layers = {
  protocol: [],
  link: ['protocol'],
  api: ['protocol'],
  agent: ['protocol', 'link'],
  server: ['protocol', 'link', 'api'],
  cli: ['protocol', 'link', 'api', 'agent', 'server'],
  testkit: ['protocol', 'link', 'api', 'agent', 'server', 'cli'],
}
/** Inside the server imports go to the right only; names in one step do not know each other (ARCHITECTURE.md). */
const steps = [
  ['main', 'index'],
  ['control', 'tunnels', 'terminals'],
  ['tasks', 'workflows'],
  ['dispatch'],
  ['files'],
  ['routing'],
  ['agents', 'cluster'],
  ['identity'],
  ['store'],
  ['model'],
]

const others = (names, allowed) => names.filter((name) => !allowed.includes(name))
const packageRules = Object.entries(layers).map(([name, allowed]) => ({
  name: `${name}-imports-${allowed.join('-') || 'nobody'}`,
  severity: 'error',
  from: { path: `^packages/${name}/src/` },
  to: { path: `^packages/(${others(Object.keys(layers), [...allowed, name]).join('|') || '$none'})/` },
}))
const stepRules = steps.flatMap((step, at) =>
  step.map((folder) => ({
    name: `server-${folder}-turns-back`,
    severity: 'error',
    from: { path: `^packages/server/src/${folder}(/|\\.ts$)` },
    to: {
      path: `^packages/server/src/(${[...steps.slice(0, at).flat(), ...step.filter((other) => other !== folder && at > 0)].join('|') || '$none'})(/|\\.ts$)`,
    },
  })),
)

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    { name: 'no-circle', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'no-own-index',
      severity: 'error',
      from: { path: '^packages/([^/]+)/src/.+', pathNot: 'src/index\\.ts$' },
      to: { path: '^packages/$1/src/index\\.ts$' },
    },
    {
      name: 'protocol-is-pure',
      severity: 'error',
      from: { path: '^packages/protocol/src/' },
      to: { dependencyTypes: ['core', 'npm'] },
    },
    {
      name: 'sql-only-in-store',
      severity: 'error',
      from: { path: '^packages/server/src/', pathNot: '^packages/server/src/store/' },
      to: { path: '(node_modules/(kysely|pg)/|^node:sqlite$|^sqlite$)' },
    },
    {
      name: 'messages-know-no-tunnels',
      severity: 'error',
      from: { path: '^packages/server/src/tunnels/http/' },
      to: { path: '^packages/server/src/tunnels/(?!http/)' },
    },
    ...packageRules,
    ...stepRules,
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '(^|/)(test|node_modules/\\.)/' },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default'] },
  },
}
