-- What wrk sends: 5 % of the requests write, a tenth of those roll back.  Some pages are wanted more
-- than others: the first tenth of them gets nearly half of the requests.

local paths = {}

function init(args)
  math.randomseed(tonumber(args[2]) or 1)
  for line in io.lines(args[1]) do
    paths[#paths + 1] = line
  end
end

function request()
  local path = paths[math.floor(#paths * math.random() ^ 3) + 1]
  local dice = math.random()
  if dice < 0.005 then
    return wrk.format("POST", "/load/abort/" .. path)
  elseif dice < 0.05 then
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
