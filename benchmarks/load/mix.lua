-- What wrk sends: pages, and writes, a tenth of which roll back.  Some pages are wanted more than
-- others: the first tenth of them gets nearly half of the requests.
-- Arguments: a file of paths, a seed, the share of writes.

local paths = {}
local writes = 0

function init(args)
  math.randomseed(tonumber(args[2]) or 1)
  writes = tonumber(args[3] or "0.05")
  for line in io.lines(args[1]) do
    paths[#paths + 1] = line
  end
end

function request()
  local path = paths[math.floor(#paths * math.random() ^ 3) + 1]
  local dice = math.random()
  if dice < writes / 10 then
    return wrk.format("POST", "/load/abort/" .. path)
  elseif dice < writes then
    return wrk.format("POST", "/load/edit/" .. path)
  end
  return wrk.format("GET", "/wiki/" .. path)
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "failed": %d}\n',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
