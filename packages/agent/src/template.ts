/** What `cyberun agent init` writes: every setting, with its default commented out. */
export function agentConfigTemplate(options: { gatewayUrl?: string; agentKeyFile?: string } = {}): string {
  const gateway = options.gatewayUrl ?? 'wss://edge.example.org:8788'
  const key =
    options.agentKeyFile === undefined ? 'agent_key: ak-…' : `agent_key_file: ${JSON.stringify(options.agentKeyFile)}`
  return `# Settings of the Cyberun agent on this machine. The agent dials out and listens on no port.
# Each one can also come from the environment: CYBERUN_AGENT_KEY, CYBERUN_AGENT_GATEWAY_URL, CYBERUN_AGENT_TUNNEL_PORTS, …

# Where the server's edge is. wss:// is encrypted; plain ws:// is for this machine and for tests.
gateway_url: ${gateway}

# The key that puts this machine into your team: "cyberun keys create --kind agent". Keep this file to yourself
# (chmod 600), or keep the key in a file of its own and name that instead:
# agent_key_file: /etc/cyberun/agent.key
${key}

# What the machine is called in your team. Default: its host name.
# agent_id: gpu-node-01

# Labels besides those found by themselves (the tools, gpu, the GPU's name).
# agent_labels: [rack-3, studio]

# Which ports of this machine's loopback your team's tunnels may reach: all, or a list of ports and ranges.
# The server cannot widen it. A change takes effect within seconds, also for connections that are open.
# tunnel_ports: all
# tunnel_ports: [8188, 8888, 9000-9010]

# Whether your team may open shells on this machine: everybody in it with the role member or above, and whoever was given the
# admin token of an open tunnel. They run as the agent's own user; only an agent that runs as root can name another.
# docs/terminal.md says what to think of first.
# terminal: false
# terminal: true
# terminal: { user: studio, shell: /bin/bash }

# What runs tasks on this machine; docs/tools.md and docs/comfyui.md explain each. Nothing does until one is set.
# How many tasks at once:
# slots: 1
# A ComfyUI that runs here, or how to start one:
# comfyui: http://127.0.0.1:8188
# comfyui: { start: { command: /opt/comfyui/venv/bin/python, args: [main.py], cwd: /opt/comfyui, port: 8188 } }
# Programs that tasks may run, and with which arguments: a task fills in what stands in braces, and no shell reads it.
# commands: [{ name: upscale, program: /usr/local/bin/upscale, args: ["--in={image}", "--out={output}/large.png"] }]
# The folder that has Nerfstudio's ns-train and its siblings:
# nerfstudio: { bin: /opt/nerfstudio/bin }
# A fractal for a first try, without GPU or model:
# demo: true

# A private certificate authority to trust besides the usual ones, as a PEM file.
# ca_file: /etc/cyberun/ca.pem

# An HTTP proxy to dial through, or none. Default: HTTPS_PROXY and NO_PROXY of the environment.
# proxy: http://proxy.example.org:3128

# Where the agent keeps the key that proves it is this machine. Default: ~/.local/state/cyberun-agent
# state_dir: /var/lib/cyberun-agent

# logger:
#   level: info      # debug, info, warn, error, silent
#   format: auto     # text on a terminal, json otherwise
`
}

/** What a systemd unit for the agent needs to know. Paths are absolute. */
export interface SystemdUnitOptions {
  /** The command line up to and without its settings: `/usr/bin/node /opt/cyberun/packages/cli/bin/cyberun.mjs agent`. */
  command: readonly string[]
  configFile: string
  user: string
  /** Exit codes after which starting again helps nobody: the key is refused, another process has taken over. */
  finalExitCodes: readonly number[]
}

/**
 * What `cyberun agent install` writes to /etc/systemd/system/cyberun-agent.service. Only /usr, /boot and /etc are
 * read-only: what the agent starts inherits that, and ComfyUI writes beside itself, models and caches where their makers
 * chose. A stop is told to the agent alone (KillMode): what its runs started has its time to end, and is killed after it.
 */
export function systemdUnit(options: SystemdUnitOptions): string {
  const command = [...options.command, '--config', options.configFile].map(systemdQuote).join(' ')
  return `[Unit]
Description=Cyberun agent: connects this machine to its Cyberun server
Wants=network-online.target
After=network-online.target

[Service]
ExecStart=${command}
User=${options.user}
StateDirectory=cyberun-agent
Restart=always
RestartSec=5
RestartPreventExitStatus=${options.finalExitCodes.join(' ')}
KillMode=mixed
NoNewPrivileges=yes
ProtectSystem=full
PrivateTmp=yes
RestrictSUIDSGID=yes

[Install]
WantedBy=multi-user.target
`
}

/** Quotes one argument of ExecStart=: a percent sign and a dollar sign would be expanded. */
function systemdQuote(argument: string): string {
  const escaped = argument.replace(/%/g, '%%').replace(/\$/g, '$$$$')
  return /^[\w./:@%+=,-]+$/.test(escaped) ? escaped : `"${escaped.replace(/["\\]/g, '\\$&')}"`
}
