import { randomBytes } from 'node:crypto'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { getCACertificates } from 'node:tls'
import { formatKey } from '@cyberun/protocol'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { parse as parseYaml } from 'yaml'
import { AgentConfigError, defaultAgentId, loadAgentConfig, parseAgentConfig } from '../src/config.ts'
import { agentConfigTemplate, systemdUnit } from '../src/template.ts'

const KEY = formatKey('ak', randomBytes(32))
/** Any certificate. */
const [authority = ''] = getCACertificates('bundled')
const MINIMAL = { gateway_url: 'wss://edge.example.org', agent_key: KEY }

let dir: string
let file: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'cyberun-agent-'))
  file = join(dir, 'cyberun-agent.yaml')
})
afterEach(() => rm(dir, { recursive: true }))

describe('settings', () => {
  test('two are enough; the rest has defaults', () => {
    const config = parseAgentConfig(MINIMAL, { HOME: '/home/ada' })
    expect(config).toMatchObject({
      agentKey: KEY,
      labels: [],
      tunnelPorts: 'all',
      ca: undefined,
      proxy: undefined,
      stateDir: '/home/ada/.local/state/cyberun-agent',
      logger: { level: 'info', format: 'auto' },
      warnings: [],
    })
    expect(config.agentId).not.toBe('')
  })

  test.each([
    ['https://edge.example.org', 'wss://edge.example.org/agent'],
    ['wss://edge.example.org:8788/', 'wss://edge.example.org:8788/agent'],
    ['http://127.0.0.1:8788', 'ws://127.0.0.1:8788/agent'],
    ['ws://[::1]:8788/behind/a/proxy', 'ws://[::1]:8788/behind/a/proxy'],
  ])('the gateway %s is dialled at %s', (written, dialled) => {
    expect(parseAgentConfig({ ...MINIMAL, gateway_url: written }, {}).gatewayUrl.href).toBe(dialled)
  })

  test('the file is read, the environment stands above it, files in it are beside it', async () => {
    await writeFile(join(dir, 'agent.key'), `${KEY}\n`)
    await writeFile(join(dir, 'ca.pem'), authority)
    await writeFile(
      file,
      'gateway_url: wss://edge.example.org\nagent_key_file: agent.key\nca_file: ca.pem\nagent_labels: [rack-3]\n' +
        'agent_id: from-file\ntunnel_ports: [22]\nstate_dir: state\nproxy: http://proxy:3128\n',
    )
    const config = loadAgentConfig(
      {
        CYBERUN_AGENT_ID: 'from-env',
        CYBERUN_AGENT_TUNNEL_PORTS: '8188,9000-9010',
        CYBERUN_AGENT_LOGGER_LEVEL: 'debug',
      },
      file,
    )
    expect(config).toMatchObject({
      agentId: 'from-env',
      agentKey: KEY,
      ca: authority,
      labels: ['rack-3'],
      tunnelPorts: [
        { first: 8188, last: 8188 },
        { first: 9000, last: 9010 },
      ],
      stateDir: join(dir, 'state'),
      logger: { level: 'debug', format: 'auto' },
      file,
    })
    expect(config.proxy?.href).toBe('http://proxy:3128/')
    const other = formatKey('ak', randomBytes(32))
    expect(loadAgentConfig({ CYBERUN_AGENT_KEY: other }, file).agentKey).toBe(other)
  })

  test('a proxy comes from the environment unless the settings say none', () => {
    const env = { HTTPS_PROXY: 'http://proxy:3128' }
    expect(parseAgentConfig(MINIMAL, env).proxy?.host).toBe('proxy:3128')
    expect(parseAgentConfig({ ...MINIMAL, proxy: 'none' }, env).proxy).toBeUndefined()
  })

  const wrong: readonly [what: string, settings: object, message: RegExp][] = [
    ['no gateway', { agent_key: KEY }, /gateway_url: expected the URL .* "cyberun agent init"/],
    ['a gateway without a scheme', { ...MINIMAL, gateway_url: 'edge:8788' }, /gateway_url: expected/],
    ['no key', { gateway_url: 'wss://e' }, /agent_key: missing; make one with/],
    ['a mistyped key', { ...MINIMAL, agent_key: `${KEY.slice(0, -1)}~` }, /agent_key: this is no key/],
    ['a key of another kind', { ...MINIMAL, agent_key: formatKey('sk', randomBytes(32)) }, /starts with sk-/],
    ['two keys', { ...MINIMAL, agent_key_file: 'x' }, /set one of them/],
    ['a key file that is not there', { gateway_url: 'wss://e', agent_key_file: 'nowhere' }, /there is no such file/],
    ['a misspelt setting', { ...MINIMAL, tunel_ports: 'all' }, /tunel_ports: .* did you mean tunnel_ports\?/],
    ['a misspelt inner setting', { ...MINIMAL, logger: { levle: 'info' } }, /logger.levle: .* did you mean level\?/],
    ['a bad port', { ...MINIMAL, tunnel_ports: [70_000] }, /tunnel_ports: expected all, or ports/],
    ['a bad label', { ...MINIMAL, agent_labels: ['a b'] }, /agent_labels.0: expected letters/],
    ['a bad id', { ...MINIMAL, agent_id: 'a/b' }, /agent_id: expected 1 to 64/],
    ['a proxy of another kind', { ...MINIMAL, proxy: 'socks5://proxy:1080' }, /proxy: the proxy must be http:/],
  ]
  test.each(wrong)('%s is one clear error', (_what, settings, message) => {
    expect(() => parseAgentConfig(settings, {})).toThrow(AgentConfigError)
    expect(() => parseAgentConfig(settings, {})).toThrow(message)
  })

  test.each([
    ['', /holds no certificate in PEM/],
    ['\u0030\u0082binary', /holds no certificate in PEM/],
    [`${authority}\n${authority.replace(/MII/, 'MIA')}`, /certificate 2 in .* cannot be read/],
  ])('a ca_file without certificates is one clear error, %#', async (text, message) => {
    const path = join(dir, 'ca.pem')
    await writeFile(path, text)
    expect(() => parseAgentConfig({ ...MINIMAL, ca_file: path }, {})).toThrow(message)
  })

  test('a ca_file may hold several certificates, and words beside them', async () => {
    const path = join(dir, 'ca.pem')
    await writeFile(path, `# the authority of the house\r\n${authority.replaceAll('\n', '\r\n')}\r\n${authority}`)
    expect(parseAgentConfig({ ...MINIMAL, ca_file: path }, {}).ca).toContain(authority)
  })

  test('an error never repeats a key', () => {
    const mistyped = `${KEY.slice(0, -1)}~`
    expect(() => parseAgentConfig({ ...MINIMAL, agent_key: mistyped }, {})).not.toThrow(mistyped)
  })

  test('a misspelt variable is an error with a suggestion', () => {
    expect(() => loadAgentConfig({ CYBERUN_AGENT_TUNEL_PORTS: 'all' }, undefined)).toThrow(/did you mean tunnel_ports/)
  })

  test('what is legal but unwise is a warning', async () => {
    expect(parseAgentConfig({ ...MINIMAL, gateway_url: 'ws://edge.example.org' }, {}).warnings[0]).toMatch(
      /not encrypted/,
    )
    expect(parseAgentConfig({ ...MINIMAL, gateway_url: 'ws://localhost:8788' }, {}).warnings).toEqual([])
    await writeFile(file, `gateway_url: wss://e\nagent_key: ${KEY}\n`)
    await chmod(file, 0o644)
    expect(loadAgentConfig({}, file).warnings[0]).toMatch(/chmod 600/)
    await chmod(file, 0o600)
    expect(loadAgentConfig({}, file).warnings).toEqual([])
  })
})

test.each([
  ['studio-7', 'studio-7'],
  ['GPU Node_1.local', 'gpu-node_1.local'],
  ['-x-', 'x'],
  ['日本', 'agent'],
  [`${'a'.repeat(63)}.b`, 'a'.repeat(63)],
])('the host %s is called %s', (host, id) => {
  expect(defaultAgentId(host)).toBe(id)
})

describe('files we write', () => {
  test('the template is valid as it stands, and valid with every line switched on', () => {
    const plain = parseYaml(agentConfigTemplate()) as Record<string, unknown>
    expect(Object.keys(plain)).toEqual(['gateway_url', 'agent_key'])
    const keyFile = parseYaml(agentConfigTemplate({ gatewayUrl: 'ws://127.0.0.1:8788', agentKeyFile: '/etc/my key' }))
    expect(keyFile).toEqual({ gateway_url: 'ws://127.0.0.1:8788', agent_key_file: '/etc/my key' })

    const settings = agentConfigTemplate().matchAll(/^# (\w+: .*)$/gm)
    for (const [, line = ''] of settings) {
      const setting = parseYaml(line) as Record<string, unknown>
      if ('agent_key_file' in setting || 'ca_file' in setting) continue
      expect(() => parseAgentConfig({ ...MINIMAL, ...setting }, {}), line).not.toThrow()
    }
  })

  test('settings of tools have defaults, and come from the environment too', () => {
    expect(parseAgentConfig(MINIMAL, {}).tools).toEqual({ slots: 1, demo: false, commands: [] })
    const config = loadAgentConfig({
      CYBERUN_AGENT_KEY: KEY,
      CYBERUN_AGENT_GATEWAY_URL: 'wss://edge.example.org',
      CYBERUN_AGENT_SLOTS: '4',
      CYBERUN_AGENT_DEMO: 'true',
    })
    expect(config.tools).toMatchObject({ slots: 4, demo: true })
  })

  test.each([
    [{ slots: 0 }, /^slots: .*1/],
    [{ demo: 'maybe' }, /^demo: /],
    [
      { commands: [{ name: 'a', program: 'x', shell: true }] },
      /^commands\.0\.shell: there is no such setting; docs\/tools/,
    ],
    [{ commands: [{ name: 'c'.repeat(57), program: 'x' }] }, /^commands\.0\.name: expected at most 56/],
    [{ commands: [{ name: 'a', program: 'x', args: ['{b'] }] }, /^commands\.0\.args\.0: a brace stands alone/],
    [{ nerfstudio: { folder: '/x' } }, /^nerfstudio\.folder: there is no such setting/],
    [{ comfyui: {} }, /^comfyui/],
  ])('settings of tools that make no sense are named: %j', (settings, message) => {
    expect(() => parseAgentConfig({ ...MINIMAL, ...settings }, {})).toThrow(AgentConfigError)
    expect(() => parseAgentConfig({ ...MINIMAL, ...settings }, {})).toThrow(message)
  })

  test('the unit quotes its command and does not start again after a final exit', () => {
    const unit = systemdUnit({
      command: ['/opt/my node/bin/node', '/opt/100%/cyberun.mjs', 'agent'],
      configFile: '/etc/cyberun-agent.yaml',
      user: 'cyberun',
      finalExitCodes: [3, 4],
    })
    expect(unit).toContain(
      'ExecStart="/opt/my node/bin/node" /opt/100%%/cyberun.mjs agent --config /etc/cyberun-agent.yaml\n',
    )
    expect(unit).toContain('RestartPreventExitStatus=3 4\n')
    expect(unit).toContain('User=cyberun\n')
    expect(unit, 'runs have their time to end').toContain('KillMode=mixed\n')
    expect(unit, 'a ComfyUI in /opt that the agent starts must be able to write there').toContain(
      'ProtectSystem=full\n',
    )
  })
})
