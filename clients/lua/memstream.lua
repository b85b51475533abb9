-- MemStream for LuaJIT, as in nginx with lua-nginx-module. docs/languages.md shows how to use it.
--
-- The calls are shaped like those of ngx.shared.DICT: times to live are seconds, a failure is nil (or false) and a text.
-- No call waits: the timeout is 0 unless open() is told another one, so a lock that is taken gives "CACHE_BUSY". A get
-- normally takes no lock.
require "memstream_cdef"
local ffi = require "ffi"

local FIRST_BUFFER = 16384
local MISS, TOO_SMALL = 1, -4
local EXACT = 2 ^ 53

-- The names of the statuses that calls give; another one is given by its number.
local NAMES = {
  [1] = "CACHE_MISS", [2] = "CACHE_EXISTS", [3] = "CACHE_CONFLICT", [4] = "CACHE_HELD", [-1] = "CACHE_INVALID",
  [-2] = "CACHE_BAD_KEY", [-3] = "CACHE_TOO_LARGE", [-6] = "CACHE_NOT_NUMERIC", [-7] = "CACHE_READ_ONLY",
  [-21] = "CACHE_BAD_NAME", [-40] = "CACHE_BUSY", [-41] = "CACHE_GONE", [-42] = "CACHE_NO_MEMORY",
  [-43] = "CACHE_PROCESS_TABLE_FULL", [-44] = "CACHE_FULL", [-60] = "CACHE_NO_SEGMENT", [-61] = "CACHE_NOT_OWNER",
  [-62] = "CACHE_NO_PERMISSION", [-75] = "CACHE_CORRUPT",
}

local library
local buffer, buffer_size = ffi.new("char[?]", FIRST_BUFFER), FIRST_BUFFER
local size = ffi.new "size_t[1]"
local meta = ffi.new "memstream_meta_t"
local number = ffi.new "int64_t[1]"
local initial = ffi.new "int64_t[1]"
local token = ffi.new "uint64_t[1]"

local M = {}
local Cache = {}
Cache.__index = Cache

-- nil, the name of the status, and the library's message.
local function failure(status)
  local name = NAMES[status] or ("status " .. status)
  return nil, name, ffi.string(status < 0 and library.cache_last_error() or library.cache_strerror(status))
end

-- true; false and the name of an expected outcome; or a failure.
local function outcome(status)
  if status == 0 then return true end
  if status > 0 then return false, NAMES[status] end
  return failure(status)
end

-- Milliseconds of seconds. 0 and nil: for ever.
local function milliseconds(seconds)
  if seconds == nil or seconds == 0 then return 0 end
  if type(seconds) ~= "number" or not (seconds > 0 and seconds < 1e12) then
    error("Invalid ttl: expected seconds above 0, or 0 for an entry that never expires.", 3)
  end
  return math.ceil(seconds * 1000)
end

local function text(value)
  if type(value) == "string" then return value end
  if type(value) == "number" then return tostring(value) end
  error("Invalid key or value: expected a string or a number, not a " .. type(value) .. ".", 3)
end

local function load_library(path)
  library = library or ffi.load(path or os.getenv "MEMSTREAM_LIBRARY" or "libcache.so.1")
end

-- Opens a cache. options: library (a path), name, backend, size (bytes), shards, mode, group, timeout (seconds),
-- read_only, existing. What is missing comes from the environment, but for the timeout.
function M.open(options)
  options = options or {}
  load_library(options.library)
  local given = ffi.new "memstream_options_t"
  library.memstream_options_init_sized(given, ffi.sizeof(given))
  -- The texts must live until the call: `options` keeps them.
  given.name, given.backend, given.group = options.name, options.backend, options.group
  given.size_bytes, given.shards, given.mode = options.size or 0, options.shards or 0, options.mode or 0
  given.timeout_ms = (options.timeout or 0) * 1000
  given.flags = (options.read_only and 1 or 0) + (options.existing and 2 or 0)
  local handle = ffi.new "memstream_t *[1]"
  local status = library.memstream_open(given, handle)
  if status ~= 0 then return failure(status) end
  return setmetatable({ handle = ffi.gc(handle[0], library.memstream_close) }, Cache)
end

function M.version()
  load_library()
  return ffi.string(library.cache_version())
end

function Cache:close()
  if self.handle then library.memstream_close(ffi.gc(self.handle, nil)) end
  self.handle = nil
end

-- Removes the segment for all processes.
function Cache:destroy()
  local done, name, message = outcome(library.memstream_destroy(self.handle))
  self:close()
  return done, name, message
end

-- The status of a get; the value is in `buffer`, which grows to hold it.
local function fetch(self, key)
  key = text(key)
  while true do
    size[0] = buffer_size
    local status = library.memstream_get(self.handle, key, #key, buffer, size, meta)
    if status ~= TOO_SMALL then return status end
    buffer_size = tonumber(size[0])
    buffer = ffi.new("char[?]", buffer_size)
  end
end

-- Keeps a large buffer from living on.
local function shrink()
  if buffer_size > 1048576 then buffer, buffer_size = ffi.new("char[?]", FIRST_BUFFER), FIRST_BUFFER end
end

-- value, flags; nil for a miss; nil, name, message for an error.
function Cache:get(key)
  local status = fetch(self, key)
  if status == 0 then
    local value = ffi.string(buffer, size[0])
    shrink()
    return value, meta.flags
  end
  if status == MISS then return nil end
  return failure(status)
end

-- value, token for cas(), flags.
function Cache:gets(key)
  local status = fetch(self, key)
  if status == 0 then
    local value = ffi.string(buffer, size[0])
    shrink()
    return value, meta.cas, meta.flags
  end
  if status == MISS then return nil end
  return failure(status)
end

-- Seconds that an entry has left; 0: it never expires; nil: there is none. `now` is Unix time, by default ngx.now().
function Cache:ttl(key, now)
  local status = fetch(self, key)
  if status == MISS then return nil end
  if status ~= 0 then return failure(status) end
  if meta.expires_at_ms == 0 then return 0 end
  if not now then
    ngx.update_time()
    now = ngx.now()
  end
  return math.max(tonumber(meta.expires_at_ms) / 1000 - now, 0.001)
end

local function store(call, self, key, value, ttl, flags)
  key, value = text(key), text(value)
  return outcome(library[call](self.handle, key, #key, value, #value, milliseconds(ttl), flags or 0))
end

-- true; nil, name, message.
function Cache:set(key, value, ttl, flags) return store("memstream_set", self, key, value, ttl, flags) end

-- true; false, "CACHE_EXISTS".
function Cache:add(key, value, ttl, flags) return store("memstream_add", self, key, value, ttl, flags) end

-- true; false, "CACHE_MISS".
function Cache:replace(key, value, ttl, flags) return store("memstream_replace", self, key, value, ttl, flags) end

-- true; false and "CACHE_CONFLICT" or "CACHE_MISS".
function Cache:cas(key, value, cas, ttl, flags)
  key, value = text(key), text(value)
  return outcome(library.memstream_cas(self.handle, key, #key, value, #value, milliseconds(ttl), flags or 0, cas))
end

function Cache:delete(key)
  key = text(key)
  return outcome(library.memstream_delete(self.handle, key, #key))
end

function Cache:exists(key)
  key = text(key)
  return outcome(library.memstream_exists(self.handle, key, #key))
end

-- Gives an entry another time to live.
function Cache:expire(key, ttl)
  key = text(key)
  return outcome(library.memstream_touch(self.handle, key, #key, milliseconds(ttl)))
end

-- The sum: a number, beyond 2^53 an int64_t. Numbers may be given as int64_t too.
function Cache:incr(key, delta, init, ttl)
  key = text(key)
  if init then initial[0] = init end
  local status =
    library.memstream_incr(self.handle, key, #key, delta, init and initial or nil, milliseconds(ttl), number)
  if status == MISS then return nil, "CACHE_MISS" end
  if status ~= 0 then return failure(status) end
  local sum = tonumber(number[0])
  if sum > -EXACT and sum < EXACT then return sum end
  return number[0]
end

-- Removes all keys.
function Cache:flush_all() return outcome(library.memstream_clear(self.handle)) end

-- The items of a batch. The texts must live as long: the caller keeps `keys`.
local function items_of(keys)
  local items = ffi.new("memstream_item_t[?]", #keys)
  for at, key in ipairs(keys) do
    keys[at] = text(key)
    items[at - 1].key, items[at - 1].key_size = ffi.cast("const char *", keys[at]), #keys[at]
  end
  return items
end

local function copy(list)
  local result = {}
  for at, element in ipairs(list) do result[at] = element end
  return result
end

-- A table from keys to values; what is missing is not in it.
function Cache:get_many(keys)
  keys = copy(keys)
  local items = items_of(keys)
  local capacity = math.max(FIRST_BUFFER, 1024 * #keys)
  local found
  repeat
    found = ffi.new("char[?]", capacity)
    size[0] = capacity
    local status = library.memstream_get_many(self.handle, items, #keys, found, size)
    if status ~= 0 and status ~= TOO_SMALL then return failure(status) end
    capacity = tonumber(size[0])
  until status == 0
  local values = {}
  for at, key in ipairs(keys) do
    if items[at - 1].status == 0 then values[key] = ffi.string(items[at - 1].value, items[at - 1].value_size) end
  end
  return values
end

-- Stores a table from keys to values.
function Cache:set_many(values, ttl, flags)
  local keys, contents = {}, {}
  for key, value in pairs(values) do
    keys[#keys + 1], contents[#contents + 1] = text(key), text(value)
  end
  local items = items_of(keys)
  for at, value in ipairs(contents) do
    local item = items[at - 1]
    item.value, item.value_size = ffi.cast("const char *", value), #value
    item.ttl_ms, item.flags = milliseconds(ttl), flags or 0
  end
  return outcome(library.memstream_set_many(self.handle, items, #keys))
end

-- How many of the keys were there.
function Cache:delete_many(keys)
  keys = copy(keys)
  local items = items_of(keys)
  local status = library.memstream_delete_many(self.handle, items, #keys)
  if status ~= 0 then return failure(status) end
  local removed = 0
  for at = 0, #keys - 1 do
    if items[at].status == 0 then removed = removed + 1 end
  end
  return removed
end

-- The lease of a missing key, for fulfil() or release(); false and "CACHE_HELD" or "CACHE_EXISTS". `duration`: seconds
-- after which another caller may take it. Do not wait for another holder in nginx: serve a stale value, or ask again
-- after ngx.sleep().
function Cache:lease(key, duration)
  key = text(key)
  local status = library.memstream_lease(self.handle, key, #key, 0, milliseconds(duration), token)
  if status == 0 then return token[0] end
  return outcome(status)
end

function Cache:fulfil(key, value, lease, ttl, flags)
  key, value = text(key), text(value)
  return outcome(
    library.memstream_lease_fulfil(self.handle, key, #key, value, #value, milliseconds(ttl), flags or 0, lease)
  )
end

function Cache:release(key, lease)
  key = text(key)
  return outcome(library.memstream_lease_release(self.handle, key, #key, lease))
end

-- The process ids that are attached.
function Cache:processes()
  local found = ffi.new("memstream_process_t[?]", 1024)
  local status = library.memstream_processes(self.handle, found, 1024, size)
  if status ~= 0 then return failure(status) end
  local pids = {}
  for at = 0, math.min(tonumber(size[0]), 1024) - 1 do pids[at + 1] = found[at].pid end
  return pids
end

return M
