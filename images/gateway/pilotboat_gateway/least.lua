-- Whom of a lane a request is for, where this gateway has somebody idle there: the fetch `least` names a server.
--
-- `balance leastconn` takes whoever has nothing of its own, however little he is to get. But others' requests may fill
-- him, of which his weight alone tells: the replica's own word on its load, its slow start, its zone. So here the idle
-- count by their weights too. Where nobody is idle leastconn does just that, and nobody is named.
--
-- Names are those of the lane's own servers: HAProxy 3.0 spoils a string with a backend's name before a slash.
--
-- Owns: that choice. Must not know: where weights come from, who is asked when it fails.

-- What is true is 1, and from HAProxy 3.1 on true.
local function is(told)
  return told == 1 or told == true
end

-- By lane and server: how far each idle one is behind its turn. One table a thread.
local behind = {}

-- Of those that are idle each as often as its weight says, evenly spread.
local function turn(lane, idle)
  local owed = behind[lane] or {}
  local whole, first = 0, nil
  for name, weight in pairs(idle) do
    whole = whole + weight
    owed[name] = (owed[name] or 0) + weight
    if not first or owed[name] > owed[first] then
      first = name
    end
  end
  owed[first] = owed[first] - whole
  behind[lane] = owed
  return first
end

core.register_fetches("least", function(txn, lane, count, limit)
  local idle, least, fewest = {}, nil, nil
  for at = 0, tonumber(count) - 1 do
    local name = "s" .. at
    local weight = is(txn.f:srv_is_up(name)) and txn.f:srv_weight(name) or 0
    if weight > 0 then
      local under_way = txn.f:srv_conn(name) + txn.f:srv_queue(name)
      local load = (under_way + 1) / weight
      if under_way < tonumber(limit) and (not fewest or load < fewest) then
        least, fewest = name, load
      end
      if under_way == 0 then
        idle[name] = weight
      end
    end
  end
  if next(idle) then
    return idle[least] and turn(lane, idle) or least
  end
end)
