/**
 * Every table, as rows come back from either engine. Ids are text, times are integer milliseconds since 1970 (UTC),
 * JSON is text. Secrets are hashes or sealed; nothing here opens a door by itself.
 */
export interface Tables {
  server_state: ServerStateTable
  user_account: UserAccountTable
  team: TeamTable
  membership: MembershipTable
  invitation: InvitationTable
  credential: CredentialTable
  pairing: PairingTable
  refresh_family: RefreshFamilyTable
  refresh_token: RefreshTokenTable
  signing_key: SigningKeyTable
  agent: AgentTable
  tunnel: TunnelTable
  audit_record: AuditRecordTable
  workflow: WorkflowTable
  workflow_snapshot: WorkflowSnapshotTable
  task: TaskTable
  task_requirement: TaskRequirementTable
  task_refusal: TaskRefusalTable
  task_input: TaskInputTable
  task_exposure: TaskExposureTable
  task_event: TaskEventTable
  idempotency_key: IdempotencyKeyTable
  agent_history: AgentHistoryTable
  input_file: InputFileTable
  artifact: ArtifactTable
}

/** Facts about this installation, one a row. */
export interface ServerStateTable {
  state_key: string
  state_value: string
}

export interface UserAccountTable {
  id: string
  /** Lower case; unique. */
  email_address: string
  first_name: string
  last_name: string
  display_name: string
  /** Argon2id in its PHC string form. */
  password_hash: string
  created_at: number
}

export interface TeamTable {
  id: string
  display_name: string
  created_at: number
}

/** A team has exactly one row with `owner`; a partial unique index holds that. */
export interface MembershipTable {
  team_id: string
  user_id: string
  role: string
  joined_at: number
}

/** Waiting invitations only: accepting or withdrawing one deletes its row. */
export interface InvitationTable {
  id: string
  team_id: string
  email_address: string
  invitation_role: string
  token_hash: string
  invited_by_user_id: string
  created_at: number
  expires_at: number
}

export interface CredentialTable {
  id: string
  team_id: string
  user_id: string
  /** `integration`, `device` or `agent`. */
  kind: string
  display_name: string
  key_prefix: string
  /** SHA-256 of the whole key, hex; unique. */
  key_hash: string
  /** On a device's row: the agent credential made with it, which ends with it. */
  companion_id: string | null
  created_at: number
  last_used_at: number | null
  expires_at: number | null
  revoked_at: number | null
}

/** One device waiting to be let in. The keys are made when the device fetches them, so they are never at rest. */
export interface PairingTable {
  device_code_hash: string
  /** Normalised: eight characters without the dash; unique. */
  user_code: string
  created_at: number
  expires_at: number
  approved_by_user_id: string | null
  approved_team_id: string | null
  device_name: string | null
}

/** One sign-in: every refresh token that descends from it, and the JWTs made with them. */
export interface RefreshFamilyTable {
  id: string
  user_id: string
  created_at: number
  expires_at: number
  ended_at: number | null
}

export interface RefreshTokenTable {
  /** SHA-256, hex. */
  token_hash: string
  family_id: string
  created_at: number
  used_at: number | null
}

export interface SigningKeyTable {
  kid: string
  public_jwk: string
  /** The private JWK, sealed with the server secret. */
  private_sealed: string
  created_at: number
  retired_at: number | null
}

/** The last known connection of each agent; `generation` grows with each new link and fences the older ones. */
export interface AgentTable {
  team_id: string
  agent_id: string
  machine_key: string
  generation: number
  gateway_id: string
  credential_id: string
  agent_version: string
  connected_at: number
  last_heartbeat_at: number
  tasks_completed: number
}

export interface TunnelTable {
  session_id: string
  team_id: string
  agent_id: string
  target_port: number
  /** `http` or `tcp`. */
  tunnel_protocol: string
  /** SHA-256, hex; unique. */
  token_hash: string
  /** The token sealed with the server secret: `tunnel_url` must be shown again. */
  token_sealed: string
  admin_token_hash: string
  opened_by_user_id: string
  opened_by_credential_id: string | null
  opened_by_family_id: string | null
  task_id: string | null
  opened_at: number
  last_activity_at: number
  idle_timeout_ms: number
  bytes_in: number
  bytes_out: number
  closed_at: number | null
  /** `comfyui`, `jupyter`, `gradio`, `code-server`, `vite` or `generic`. */
  profile: string
  /** `rewrite` or `preserve`. */
  host_policy: string
  /** `strip` or `keep`. */
  path_mode: string
  /** First label of the tunnel's own host; unique, also among closed ones. */
  label: string
  /** Port of the edge that leads to this tunnel only. */
  edge_port: number | null
}

/** Who did what to what. Outlives the team and the people it names. */
export interface AuditRecordTable {
  id: string
  team_id: string
  at: number
  actor: string
  action: string
  subject: string
  detail: string
}

/** A deleted workflow keeps its row and snapshots: tasks that were submitted with it go on. */
export interface WorkflowTable {
  id: string
  team_id: string
  /** Unique among the team's workflows that are not deleted. */
  workflow_slug: string
  tool_type: string
  /** `active` or `disabled`. */
  workflow_status: string
  /** Of its latest snapshot. */
  version: number
  created_at: number
  updated_at: number
  deleted_at: number | null
}

/** One version of a workflow; never changed. */
export interface WorkflowSnapshotTable {
  workflow_id: string
  version: number
  display_name: string
  /** JSON of everything that is versioned. */
  definition: string
  created_at: number
  created_by_user_id: string
}

/** A submitted run. Its rules are `model/task-change.ts`; writes of an attempt name `attempt_fence` and `agent_id`. */
export interface TaskTable {
  id: string
  team_id: string
  workflow_id: string
  workflow_version: number
  workflow_slug: string
  tool_type: string
  status: string
  priority: number
  submitter_id: string
  /** `jwt` or `api_key`. */
  creation_source: string
  /** JSON, checked and completed. */
  parameters: string
  dispatch_target: string | null
  target_pool: string | null
  submitter_region: string | null
  requirement_key: string
  /** Agents that declined it for good, sorted, each with a comma around it: `,gpu-1,gpu-2,`; empty for none. */
  refused_by: string
  /** JSON list of model names: what the agent that runs it has warm afterwards. */
  models: string
  created_at: number
  started_at: number | null
  completed_at: number | null
  error: string | null
  /** JSON. */
  output: string | null
  retry_count: number
  max_retries: number
  task_timeout_ms: number
  resume_window_ms: number
  attempt_fence: number
  agent_id: string | null
  gateway_id: string | null
  /** JSON list, of the agent that has or had it last. */
  agent_labels: string
  gpu_type: string | null
  ack_until: number | null
  lease_until: number | null
  deadline_at: number | null
  acknowledged_sequence: number
  event_count: number
  /** JSON, the latest of the current attempt. */
  progress: string | null
  /** When its events were dropped. */
  forgotten_at: number | null
}

/** Sets of needs, each once, named by a hash of itself; shared by all tasks that need the same. Never deleted. */
export interface TaskRequirementTable {
  requirement_key: string
  requirements: string
}

export interface TaskRefusalTable {
  task_id: string
  agent_id: string
  reason: string
  message: string
  refused_at: number
}

/** Which uploads a task was given. */
export interface TaskInputTable {
  task_id: string
  file_key: string
}

/** A task whose run has a service, and whose right its tunnel stands on: the key or sign-in it was submitted with. */
export interface TaskExposureTable {
  task_id: string
  /** `http` or `tcp`. */
  tunnel_protocol: string
  credential_id: string | null
  family_id: string | null
  /** The attempt that has, or had, its tunnel; 0 for none. */
  opened_fence: number
}

/** What happened to a task, numbered from 1 without holes. */
export interface TaskEventTable {
  task_id: string
  number: number
  /** JSON of a `StoredEvent`. */
  data: string
  at: number
}

export interface IdempotencyKeyTable {
  team_id: string
  submitter_id: string
  idempotency_key: string
  body_hash: string
  task_id: string
  expires_at: number
}

/** Models that an agent has run. */
export interface AgentHistoryTable {
  team_id: string
  agent_id: string
  model: string
  used_at: number
}

export interface InputFileTable {
  file_key: string
  team_id: string
  user_id: string
  file_name: string
  content_type: string
  size: number
  sha256: string | null
  object_key: string | null
  created_at: number
  uploaded_at: number | null
  expires_at: number
}

/** A file that a run made, safe in the object store. */
export interface ArtifactTable {
  id: string
  team_id: string
  task_id: string
  fence: number
  artifact_key: string
  file_name: string
  content_type: string
  size: number
  sha256: string
  object_key: string
  created_at: number
}
