// What the server tells: cli/monitor.cpp, cli/snapshot.cpp and cli/survey.cpp make it.
export interface Histogram {
  count: number;
  buckets: { from: number; count: number }[];
  p50?: number;
  p90?: number;
  p99?: number;
  p999?: number;
}

// Of a server whose values a near cache has. A lag of null: it was never heard.
export interface NearServer {
  name: string;
  agent_pid: number;
  lag_ms: number | null;
  epoch: number;
  epochs: number;
  invalidations: number;
  subscriptions: number;
}

export interface Near {
  hits: number;
  fetches: number;
  fills: number;
  conflicts: number;
  merged: number;
  bypasses: number;
  stale: number;
  errors: number;
  servers: NearServer[];
}

export interface Stat {
  near?: Near;
  backend: string;
  name: string;
  time_ms: number;
  created_at_ms: number;
  read_only: boolean;
  layout_version: number;
  max_memory: number;
  reachable_memory: number;
  used_memory: number;
  table_memory: number;
  committed_memory: number;
  pinned_memory: number;
  value_memory: number;
  key_memory: number;
  max_value_size: number;
  entries: number;
  shards: number;
  processes: number;
  hits: number;
  misses: number;
  puts: number;
  deletes: number;
  evictions: number;
  expirations: number;
  recoveries: number;
  damaged: number;
  commit_failures: number;
  view_copies: number;
  dead_processes: number;
  recovery_ns: number;
  longest_recovery_ns: number;
  slow_reads: number;
  read_retries: number;
  removals: Record<string, number>;
  invalidations: number;
  limits: { rates: number; rate_capacity: number; semaphores: number; locks: number; permits: number; holders: number; holder_capacity: number };
  waiters: { change: number; permit: number; lease: number };
  locks: { waits: number; wait_ns: number; longest_wait_ns: number; timeouts: number };
  evicted_age_ms: Histogram;
  evicted_idle_ms: Histogram;
  get_ns: Histogram;
  set_ns: Histogram;
  curve: {
    points: { factor: number; size_bytes: number; hit_ratio: number }[];
    error: number;
    sample_step: number;
    sampled_keys: number;
    sampled_references: number;
  };
}

export interface Latencies {
  p50: number | null;
  p99: number | null;
  p999: number | null;
}

export interface Sample {
  time_ms: number;
  seconds: number;
  gets_per_s: number;
  puts_per_s: number;
  deletes_per_s: number;
  expirations_per_s: number;
  evictions_per_s: number;
  evictions_by_cause_per_s: Record<string, number>;
  hit_ratio: number | null;
  entries: number;
  used_memory: number;
  processes: number;
  get_ns: Latencies;
  set_ns: Latencies;
}

export interface Entry {
  key: string;
  value_size: number;
  stored_size: number;
  access_count: number;
  created_at_ms: number;
  last_access_ms: number;
  expires_at_ms: number;
  flags: number;
  shard: number;
  gets_per_s?: number;
}

export interface Process {
  pid: number;
  state: string;
  hits: number;
  misses: number;
  puts: number;
  pins: number;
  holds: string[];
  command: string;
}

export interface Group {
  entries: number;
  stored_bytes: number;
  accesses: number;
}

export interface Spread {
  of: string;
  unit: string;
  buckets: { below: number; entries: number }[];
  never: number;
}

export interface Survey {
  begin_ms: number;
  end_ms: number;
  entries: number;
  share: number;
  is_over: boolean;
  largest: Entry[];
  most_read: Entry[];
  prefixes: (Group & { prefix: string })[];
  other_prefixes: Group;
  all_prefixes: Group;
  histograms: Record<string, Spread>;
  map: { size_bytes: number; fill_percent: number[] };
}

export interface Live {
  stat: Stat;
  sample: Sample | null;
  hot: Entry[];
  processes: Process[];
  advice: { what: string; why: string }[];
}

export interface Report extends Live {
  version: string;
  problem: string;
  interval_ms: number;
  history: Sample[];
  survey: Survey | null;
  shows_values: boolean;
  allows_writes: boolean;
}
