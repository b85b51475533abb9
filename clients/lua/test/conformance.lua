-- The cases that every language runs, inside of nginx: tests/conformance/README.md.
local cjson = require "cjson"
local ffi = require "ffi"
local memstream = require "memstream"

local M = {}

local function bytes(given)
  if type(given) == "string" then return given end
  if given.hex then return (given.hex:gsub("%x%x", function(digits) return string.char(tonumber(digits, 16)) end)) end
  return given["repeat"]:rep(given.count)
end

-- An int64_t of a text of digits.
local function integer(digits)
  local negative, rest = digits:match "^(-?)(%d+)$"
  local result = 0LL
  for digit in rest:gmatch "%d" do result = result * 10 - tonumber(digit) end -- Downwards: -2^63 has no counterpart.
  return negative == "-" and result or -result
end

local function seconds(step) return step.ttl_ms and step.ttl_ms / 1000 end

-- The status of what a call returned: true, or false or nil with a name.
local function status(done, name, message)
  if done then return "OK" end
  return (name or "CACHE_MISS"):gsub("^CACHE_", ""), message
end

local function check(truth, what) if not truth then error(what, 2) end end

local calls = {
  get = function(cache, step, key, saved)
    local value, token, flags = cache:gets(key)
    if not value then return status(value, token, flags) end
    check(value == bytes(step.value), "another value")
    check(cache:get(key) == value, "get and gets differ")
    check(step.flags == nil or step.flags == flags, "other flags")
    if step.save then saved[step.save] = token end
    return "OK"
  end,
  set = function(cache, step, key) return status(cache:set(key, bytes(step.value), seconds(step), step.flags)) end,
  add = function(cache, step, key) return status(cache:add(key, bytes(step.value), seconds(step), step.flags)) end,
  replace = function(cache, step, key)
    return status(cache:replace(key, bytes(step.value), seconds(step), step.flags))
  end,
  cas = function(cache, step, key, saved)
    return status(cache:cas(key, bytes(step.value), saved[step.token], seconds(step), step.flags))
  end,
  delete = function(cache, step, key) return status(cache:delete(key)) end,
  exists = function(cache, step, key) return status(cache:exists(key)) end,
  touch = function(cache, step, key) return status(cache:expire(key, seconds(step))) end,
  ttl = function(cache, step, key)
    local left, name, message = cache:ttl(key)
    if not left then return status(left, name, message) end
    check((left == 0) == (step.never == true), "never")
    check(step.never or (left * 1000 >= step.at_least and left * 1000 <= step.at_most), left .. " s left")
    return "OK"
  end,
  incr = function(cache, step, key)
    local sum, name, message =
      cache:incr(key, integer(step.delta), step.initial and integer(step.initial), seconds(step))
    if not sum then return status(sum, name, message) end
    check(ffi.cast("int64_t", sum) == integer(step.result), tostring(sum))
    return "OK"
  end,
  get_many = function(cache, step)
    local values, name, message = cache:get_many(step.keys)
    if not values then return status(values, name, message) end
    for at, key in ipairs(step.keys) do
      local expected = step.values[at]
      if expected == cjson.null then expected = nil end
      check(values[key] == (expected and bytes(expected)), key)
    end
    return "OK"
  end,
  set_many = function(cache, step)
    local values = {}
    for key, value in pairs(step.values) do values[key] = bytes(value) end
    return status(cache:set_many(values, seconds(step)))
  end,
  delete_many = function(cache, step)
    check(cache:delete_many(step.keys) == step.removed, "another number")
    return "OK"
  end,
  lease = function(cache, step, key, saved)
    local lease, name, message = cache:lease(key)
    if not lease then return status(lease, name, message) end
    saved[step.save] = lease
    return "OK"
  end,
  fulfil = function(cache, step, key, saved) return status(cache:fulfil(key, bytes(step.value), saved[step.token])) end,
  release = function(cache, step, key, saved) return status(cache:release(key, saved[step.token])) end,
  clear = function(cache) return status(cache:flush_all()) end,
  wait = function(_, step)
    ngx.sleep(step.ms / 1000)
    return "OK"
  end,
}

-- How many steps held; an error names the first one that did not.
function M.run(file, name)
  local handle = assert(io.open(file))
  local description = cjson.decode(handle:read "*a")
  handle:close()
  local steps = 0
  for _, case in ipairs(description.cases) do
    local cache =
      assert(memstream.open { name = name, size = description.segment.size_bytes, shards = description.segment.shards })
    local saved = {}
    for _, step in ipairs(case.steps) do
      local call = assert(calls[step.call], step.call)
      local held, found, message = pcall(call, cache, step, step.key and bytes(step.key), saved)
      if not held or found ~= step.expect or not (message or ""):find(step.message or "", 1, true) then
        cache:destroy()
        error(case.name .. ": " .. cjson.encode(step):sub(1, 200) .. " gave " .. tostring(found))
      end
      steps = steps + 1
    end
    assert(cache:destroy())
  end
  return steps
end

return M
