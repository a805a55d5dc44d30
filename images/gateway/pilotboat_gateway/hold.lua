-- Requests that no replica can be found for: the action `hold` lets one wait until there is one again, for a moment.
--
-- A gateway whose own link was cut and is whole again has marked everybody down and needs a second or two to find out
-- otherwise; what reaches it first would be told that nobody serves. So would whatever is asked in the second that the
-- only replica needs to begin its engine anew.
--
-- Owns: how long, and who counts as there. Must not know: which requests may wait, how many at once (the configuration).

local LONGEST = 5000 -- milliseconds: probes need two or three to see that a host is back (`downinter`, `timeout check`)
local EVERY = 100

-- The lanes with a share, from `950|chat:0|1000|chat:1`.
local function lanes(split)
  local found = {}
  for lane in split:gmatch("%d+|([^|]+)") do
    found[#found + 1] = lane
  end
  return found
end

-- Whether any lane has a replica, well or not: a slot that nobody sits in is in maintenance.
local function inhabited(found)
  for _, lane in ipairs(found) do
    for name, server in pairs(core.backends[lane].servers) do
      if name ~= "spill" and not server:get_stats().status:find("^MAINT") then
        return true
      end
    end
  end
  return false
end

-- The first lane with a server that is up and whose weight is not 0.
local function open(found)
  for _, lane in ipairs(found) do
    if core.backends[lane]:get_stats().act > 0 then
      return lane
    end
  end
end

core.register_action("hold", { "http-req" }, function(txn)
  local found, waited = lanes(txn:get_var("txn.split") or ""), 0
  local lane = open(found)
  if not lane and inhabited(found) then
    repeat
      core.msleep(EVERY)
      waited = waited + EVERY
      lane = open(found)
    until lane or waited >= LONGEST
  end
  if lane then
    txn:set_var("txn.be", lane)
  end
end, 0)
