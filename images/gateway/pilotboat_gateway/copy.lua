-- Copies of requests, sent while nobody waits for them: the action `copy` takes the request as it is, and a task of its
-- own sends it to a socket of this HAProxy and throws the answer away.
--
-- Owns: the copy's form, and how long its answer is read. Must not know: which requests are copied, where copies go, how
-- many there may be (the configuration).

local LONGEST = 120 -- seconds that an answer is read; then the replica may give it up
local PIECE = 1024 -- bytes read at a time: nothing of an answer is kept

-- Headers of the caller's connection, not of the request.
local OF_CONNECTION = {
  ["connection"] = true, ["expect"] = true, ["keep-alive"] = true, ["proxy-connection"] = true, ["te"] = true,
  ["trailer"] = true, ["upgrade"] = true,
}

-- Requests that a task is to take. HAProxy 2.6 keeps what a task was made with, so they are not its arguments.
local ready = {}

local function request(txn)
  local lines = { txn.sf:method() .. " " .. txn.sf:url() .. " HTTP/1.1" }
  for name, values in pairs(txn.http:req_get_headers()) do
    if not OF_CONNECTION[name] then
      for _, value in pairs(values) do
        lines[#lines + 1] = name .. ": " .. value
      end
    end
  end
  lines[#lines + 1] = "connection: close"
  lines[#lines + 1] = "\r\n" .. txn.sf:req_body()
  return table.concat(lines, "\r\n")
end

local function send()
  local copy, socket = table.remove(ready, 1), core.tcp()
  local over = core.now().sec + LONGEST
  socket:settimeout(LONGEST)
  if socket:connect("unix@" .. copy.socket) and socket:send(copy.request) then
    repeat
      local piece = socket:receive(PIECE)
    until not piece or core.now().sec >= over
  end
  socket:close()
end

core.register_action("copy", { "http-req" }, function(txn, socket)
  ready[#ready + 1] = { socket = socket, request = request(txn) }
  core.register_task(send)
end, 1)
